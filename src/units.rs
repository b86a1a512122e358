//! Durations as people write them.
//!
//! Recipes and flags accept `500ms`, `15s`, `20m`, `4h`, `1d`, combinations (`1h30m`), plain seconds (`90`, `1.5`), and
//! Slurm's forms `MM:SS`, `HH:MM:SS`, `D-HH:MM:SS`. Everything else is refused: an unknown unit must not turn silently
//! into seconds.

use std::time::Duration;

/// A hundred years: a longer time is a slip, and no instant could be computed with it.
const LONGEST: Duration = Duration::from_hours(24 * 36_525);

/// Reads a duration; `None` where the text is none, or means more than a hundred years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text.trim()).filter(|duration| *duration <= LONGEST)
}

fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    if text.contains(':') {
        return parse_slurm(text);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = &after[..after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len())];
        total += value
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &after[unit.len()..];
    }
    Duration::try_from_secs_f64(total).ok()
}

fn parse_slurm(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().ok()?, clock),
        None => (0, text),
    };
    let parts = clock
        .split(':')
        .map(str::parse::<u64>)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] if text.contains('-') => (hours, minutes, 0),
        [minutes, seconds] => (0, minutes, seconds),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    [(days, 86400), (hours, 3600), (minutes, 60), (seconds, 1)]
        .into_iter()
        .try_fold(0_u64, |total, (count, unit)| {
            total.checked_add(count.checked_mul(unit)?)
        })
        .map(Duration::from_secs)
}

/// A duration in Slurm's own form, for `--time`: `[D-]HH:MM:SS`, rounded up to a second.
pub fn slurm_time(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}-{clock}")
    } else {
        clock
    }
}

/// A duration for people: `850 ms`, `2.5 s`, `3 min 20 s`, `2 h 05 min`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 3600.0 {
        format!(
            "{} min {:02} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    } else {
        format!(
            "{} h {:02} min",
            duration.as_secs() / 3600,
            duration.as_secs() / 60 % 60
        )
    }
}

/// A duration in the form that Prometheus's configuration takes (`15s`, `500ms`).
pub fn prometheus_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        let cases = [
            ("500ms", Some(0.5)),
            ("15s", Some(15.0)),
            ("20m", Some(1200.0)),
            ("1h30m", Some(5400.0)),
            ("24h", Some(86400.0)),
            ("90", Some(90.0)),
            ("1.5", Some(1.5)),
            ("04:00:00", Some(14400.0)),
            ("30:00", Some(1800.0)),
            ("1-02:00:00", Some(93600.0)),
            ("1-02:00", Some(93600.0)),
            ("", None),
            ("fast", None),
            ("3 parsecs", None),
            ("-1", None),
            ("12:", None),
            ("18446744073709551615:00", None),
            ("9999999999999999-00:00:00", None),
            ("99999999999999999999d", None),
            ("36525d", Some(3_155_760_000.0)),
            ("36526d", None),
            ("1e19", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                parse_duration(text).map(|d| d.as_secs_f64()),
                seconds,
                "{text:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn slurm_times_round_trip(seconds in 0_u64..10_000_000) {
            let duration = Duration::from_secs(seconds);
            proptest::prop_assert_eq!(parse_duration(&slurm_time(duration)), Some(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn no_number_is_too_long(text in "([0-9]{1,25}-)?[0-9]{1,25}(:[0-9]{1,25}){0,3}[a-z]{0,2}") {
            let _ = parse_duration(&text);
        }
    }
}
