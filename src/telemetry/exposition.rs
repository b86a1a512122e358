//! The older text format of Prometheus (0.0.4), made of the `OpenMetrics` text.
//!
//! Prometheus asks for `OpenMetrics` first and gets it. Who asks for `text/plain` alone (`promtool check metrics`, scripts,
//! older collectors) gets what they can read: there a counter is described by the name that its series have, and an
//! info metric is a gauge. Only comments differ, so comments are all that is changed.

use hyper::{HeaderMap, header::ACCEPT};

/// Does this client take the older format and not the newer one? Who says nothing takes both.
pub(super) fn wants_plain(headers: &HeaderMap) -> bool {
    let accepted = |what: &str| {
        headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(what))
    };
    accepted("text/plain") && !accepted("application/openmetrics-text")
}

/// The same metrics in the older format.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // help comes before the type in our text, and the type tells the name: one is held back until the other is known
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            put(&mut plain, &[line]);
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (kind, name) = (words.next(), words.next().unwrap_or_default());
        let rest = words.next().unwrap_or_default();
        match kind {
            Some("HELP") => help = Some((name, rest)),
            Some("TYPE") => {
                let (ending, shape) = match rest {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                    put(&mut plain, &["# HELP ", name, ending, " ", words]);
                }
                put(&mut plain, &["# TYPE ", name, ending, " ", shape]);
            }
            // UNIT is part of the name, and the end is where the answer ends
            _ => {}
        }
    }
    plain
}

fn put(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn comments_name_what_the_series_are_called() {
        let text = "# HELP cakes_bytes Cakes.\n# TYPE cakes_bytes counter\n# UNIT cakes_bytes bytes\n\
                    cakes_bytes_total{of=\"# TYPE plum\"} 1\n# HELP oven Its heat.\n# TYPE oven gauge\noven 3\n\
                    # TYPE bake_seconds histogram\nbake_seconds_bucket{le=\"+Inf\"} 1\n# TYPE build info\nbuild_info 1\n# EOF\n";
        insta::assert_snapshot!(plain(text), @r##"
        # HELP cakes_bytes_total Cakes.
        # TYPE cakes_bytes_total counter
        cakes_bytes_total{of="# TYPE plum"} 1
        # HELP oven Its heat.
        # TYPE oven gauge
        oven 3
        # TYPE bake_seconds histogram
        bake_seconds_bucket{le="+Inf"} 1
        # TYPE build_info gauge
        build_info 1
        "##);
    }

    #[test]
    fn only_who_takes_nothing_newer_gets_it() {
        let with = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            wants_plain(&headers)
        };
        assert!(with("text/plain"));
        assert!(with("text/plain;version=0.0.4"));
        assert!(!with(
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        ));
        assert!(!with("*/*"));
        assert!(!wants_plain(&HeaderMap::new()));
    }
}
