//! Had an alert anything to judge? One whose metric has no series in a run cannot fire in it, and that it did not says nothing.
//!
//! Nothing in Prometheus tells the two apart: both give no answer. So the expression is asked once more without what it wants
//! of a value: a comparison with `bool` gives a series whatever comes of it, and `unless` is taken for `or`, for what takes
//! away is data too. That an operand is missing still leaves nothing. `absent(…)` is about what is not there: it judges always.
//! Pure.

/// The question whose answer has a point wherever the alert had something to judge; `None` where it always has.
pub fn data_of(expr: &str) -> Option<String> {
    let mut asked = String::new();
    let mut rest = expr;
    let mut labels = 0_usize;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' | '`' => quoted(rest, first),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ if labels == 0 => operator(rest).map_or(first.len_utf8(), str::len),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        match token {
            "{" => labels += 1,
            "}" => labels = labels.saturating_sub(1),
            _ => {}
        }
        let lower = token.to_ascii_lowercase();
        // of an engine that has none of the metrics that an alert is about
        if lower.starts_with("absent") && labels == 0 && !after.starts_with("(vector(") {
            return None;
        }
        match lower.as_str() {
            "unless" if labels == 0 => asked.push_str("or"),
            "bool" if labels == 0 => {}
            _ if labels == 0 && operator(token) == Some(token) => {
                asked.push_str(token);
                asked.push_str(" bool");
            }
            _ if token.starts_with('#') => {}
            _ => asked.push_str(token),
        }
        rest = after;
    }
    Some(format!("count({asked})"))
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')
}

/// A comparison that stands at the beginning.
fn operator(text: &str) -> Option<&'static str> {
    let all = ["==", "!=", ">=", "<=", ">", "<"];
    all.into_iter().find(|one| text.starts_with(one))
}

/// Length of the string at the beginning, its quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_alert_wants_of_a_value_is_left_out() {
        for (expr, asked) in [
            ("up{role!=\"bench\"} == 0", "up{role!=\"bench\"} == bool 0"),
            ("a > 1 or b >= 2", "a > bool 1 or b >= bool 2"),
            (
                "(a > 5 and deriv(a[10s]) > 0)",
                "(a > bool 5 and deriv(a[10s]) > bool 0)",
            ),
            ("a unless on (x) b == 1", "a or on (x) b == bool 1"),
            ("a > bool 1", "a > bool  1"),
            (
                "m{x=\"} > 1 \\\" <\", y=~\"a|b\"} < 3",
                "m{x=\"} > 1 \\\" <\", y=~\"a|b\"} < bool 3",
            ),
            (
                "{__name__=~\"a.*\"} > 0 # why > 0",
                "{__name__=~\"a.*\"} > bool 0 ",
            ),
            ("absent(vector(1))", "absent(vector(1))"),
            ("bool_unless:rate5m != 1", "bool_unless:rate5m != bool 1"),
        ] {
            assert_eq!(data_of(expr), Some(format!("count({asked})")), "{expr}");
        }
        for expr in [
            "absent(up)",
            "absent_over_time(up[5m]) == 1",
            "a > 1 or absent(b)",
        ] {
            assert_eq!(data_of(expr), None, "{expr}");
        }
    }

    #[test]
    fn a_text_that_is_no_expression_ends() {
        for odd in ["", "\"", "a{", "}}} > ", "µ < 1", "'\\"] {
            assert!(data_of(odd).is_some(), "{odd}");
        }
    }
}
