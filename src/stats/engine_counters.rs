//! What an engine counted and measured itself: sums over one exposition of its metrics, Prometheus or `OpenMetrics` text.
//!
//! Only names and values are read: the counters of an engine are compared as a whole, whatever their labels. A line that
//! is no sample is passed over, so nothing can fail; a counter that is not there is told from one that is 0.

/// The sum of all samples of these names, over all their labels; `None` where there is none.
pub fn sum(text: &str, names: &[&str]) -> Option<f64> {
    text.lines()
        .filter_map(sample)
        .filter(|(name, value)| names.contains(name) && !value.is_nan())
        .fold(None, |sum, (_, value)| Some(sum.unwrap_or(0.0) + value))
}

/// What a histogram of times holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// All together, in seconds.
    pub seconds: f64,
    /// How many.
    pub count: f64,
}

impl Times {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            count: self.count + other.count,
        }
    }

    /// What came since an earlier look.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            count: self.count - before.count,
        }
    }
}

/// The histogram of the first of these names that is there, over all its labels: they are names of one, of several
/// generations, and a server may tell both.
pub fn histogram(text: &str, names: &[&str]) -> Option<Times> {
    names.iter().find_map(|name| {
        Some(Times {
            seconds: sum(text, &[&format!("{name}_sum")])?,
            count: sum(text, &[&format!("{name}_count")])?,
        })
    })
}

/// Name and value of a line.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest
            .trim_start()
            .strip_prefix('{')
            .map_or(Some(rest), after_labels)?,
    };
    // a timestamp or an exemplar may follow
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, value))
}

/// What follows the closing brace; braces within quotes are text.
fn after_labels(labels: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return labels.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str = include_str!("../../tests/data/metrics/llama.txt");
    const VLLM: &str = include_str!("../../tests/data/metrics/vllm.txt");

    #[test]
    fn counters_of_real_engines() {
        assert_eq!(
            sum(LLAMA, &["llamacpp:tokens_predicted_total"]),
            Some(524.0)
        );
        assert_eq!(
            sum(
                LLAMA,
                &[
                    "llamacpp:prompt_tokens_total",
                    "llamacpp:prompt_tokens_cached_total"
                ]
            ),
            Some(358.0)
        );
        assert_eq!(sum(VLLM, &["vllm:generation_tokens_total"]), Some(506.0));
        assert_eq!(sum(VLLM, &["vllm:prompt_tokens_total"]), Some(202.0));
        assert_eq!(sum(VLLM, &["vllm:prompt_tokens"]), None);
    }

    #[test]
    fn a_histogram_has_one_name_of_several() {
        let names = [
            "vllm:inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
        ];
        let newer = include_str!("../../tests/data/engines/vllm.metrics.txt");
        let times = histogram(newer, &names).expect("it is there");
        let wanted = Times {
            seconds: 32.019_414_162_000_885,
            count: 1472.0,
        };
        assert_eq!(times, wanted);
        // an earlier release, and a server that tells both
        let older = newer.replace(names[0], names[1]);
        assert_eq!(histogram(&older, &names), Some(times));
        assert_eq!(histogram(&format!("{older}{newer}"), &names), Some(times));
        assert_eq!(histogram(LLAMA, &names), None);
        assert_eq!(times.since(times), Times::default());
        assert_eq!(times.and(times).since(times), times);
    }

    #[test]
    fn labels_timestamps_and_oddities() {
        let text = "\
# TYPE a counter
a 1
a{x=\"1\"} 2 1700000000000
a{x=\"} 9\\\" }\",y=\"é\"} 4 # {trace=\"t\"} 1
a_created 100
a {z=\"q\"} 8
a NaN
a{broken 5
a{x=\"1\"} none
zero 0
";
        assert_eq!(sum(text, &["a"]), Some(15.0));
        assert_eq!(sum(text, &["zero"]), Some(0.0));
        assert_eq!(sum(text, &["a", "zero"]), Some(15.0));
        assert_eq!(sum(text, &["b"]), None);
        assert_eq!(sum("", &["a"]), None);
        assert_eq!(sum("a NaN\n", &["a"]), None);
    }
}
