//! Host lists: `gpu[001-003,7],login1` and back.
//!
//! Written by hand because `scontrol show hostnames` is a process, and is not there inside containers. Covered: several
//! bracket groups in a name, zero padding, commas at top level. Expansion is bounded ([`LIMIT`]): a typing slip must not
//! eat the memory of a job.

/// Hosts in one list, at the most.
pub const LIMIT: usize = 65_536;

/// Why a host list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A bracket without its counterpart, or nested.
    #[error("host list {0:?} has unbalanced brackets")]
    Brackets(String),
    /// A range that is none.
    #[error("host list has a bad range {0:?}")]
    Range(String),
    /// More hosts than a cluster has.
    #[error("host list has more than {LIMIT} hosts")]
    TooMany,
}

/// The hosts of a list, in its order.
pub fn expand(list: &str) -> Result<Vec<String>, Error> {
    let mut hosts = Vec::new();
    for part in split_top(list)? {
        if part.is_empty() {
            continue;
        }
        let mut names = vec![String::new()];
        let mut rest = part;
        while let Some(open) = rest.find('[') {
            let close = rest.find(']').filter(|close| *close > open);
            let close = close.ok_or_else(|| Error::Brackets(list.to_owned()))?;
            let numbers = ranges(&rest[open + 1..close])?;
            if names.len().saturating_mul(numbers.len()) > LIMIT {
                return Err(Error::TooMany);
            }
            let prefix = &rest[..open];
            names = names
                .iter()
                .flat_map(|name| {
                    numbers
                        .iter()
                        .map(move |number| format!("{name}{prefix}{number}"))
                })
                .collect();
            rest = &rest[close + 1..];
        }
        hosts.extend(names.into_iter().map(|name| name + rest));
        if hosts.len() > LIMIT {
            return Err(Error::TooMany);
        }
    }
    Ok(hosts)
}

fn split_top(list: &str) -> Result<Vec<&str>, Error> {
    let unbalanced = || Error::Brackets(list.to_owned());
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, character) in list.char_indices() {
        match character {
            '[' if inside => return Err(unbalanced()),
            '[' => inside = true,
            ']' if !inside => return Err(unbalanced()),
            ']' => inside = false,
            ',' if !inside => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(unbalanced());
    }
    parts.push(&list[start..]);
    Ok(parts)
}

fn ranges(text: &str) -> Result<Vec<String>, Error> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let bad = || Error::Range(part.to_owned());
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if !digits(first) || !digits(last) {
            return Err(bad());
        }
        let width = first.len();
        let (first, last): (u64, u64) = (
            first.parse().map_err(|_| bad())?,
            last.parse().map_err(|_| bad())?,
        );
        if last < first {
            return Err(bad());
        }
        if last - first >= LIMIT as u64 {
            return Err(Error::TooMany);
        }
        numbers.extend((first..=last).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// A list of hosts in Slurm's short form: neighbours with one prefix and one width are joined.
pub fn compress(hosts: &[String]) -> String {
    let mut groups: Vec<(String, usize, Vec<u64>)> = Vec::new();
    for host in hosts {
        let cut = host.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, digits) = host.split_at(cut);
        let width = digits.len();
        let Ok(number) = digits.parse() else {
            groups.push((host.clone(), 0, Vec::new()));
            continue;
        };
        match groups.last_mut() {
            Some((last, of, numbers)) if *last == prefix && *of == width => numbers.push(number),
            _ => groups.push((prefix.to_owned(), width, vec![number])),
        }
    }
    let texts: Vec<String> = groups
        .into_iter()
        .map(|(prefix, width, numbers)| match numbers[..] {
            [] => prefix,
            [only] => format!("{prefix}{only:0width$}"),
            _ => format!("{prefix}[{}]", runs(&numbers, width)),
        })
        .collect();
    texts.join(",")
}

fn runs(numbers: &[u64], width: usize) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let texts: Vec<String> = runs
        .iter()
        .map(|(first, last)| {
            if first == last {
                format!("{first:0width$}")
            } else {
                format!("{first:0width$}-{last:0width$}")
            }
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_slurm_writes_them() {
        let cases: [(&str, &[&str]); 6] = [
            ("node1", &["node1"]),
            ("node[1-3]", &["node1", "node2", "node3"]),
            ("gpu[008-010,12]", &["gpu008", "gpu009", "gpu010", "gpu12"]),
            ("a[1-2]b[3,5]", &["a1b3", "a1b5", "a2b3", "a2b5"]),
            ("head,node[1-2],x", &["head", "node1", "node2", "x"]),
            ("", &[]),
        ];
        for (list, hosts) in cases {
            assert_eq!(expand(list).unwrap(), hosts, "{list}");
        }
    }

    #[test]
    fn bad_lists_are_named() {
        assert_eq!(expand("a[1-"), Err(Error::Brackets("a[1-".to_owned())));
        assert_eq!(expand("a[3-1]"), Err(Error::Range("3-1".to_owned())));
        assert_eq!(expand("a[x]"), Err(Error::Range("x".to_owned())));
        assert_eq!(expand("a[0-99999999]"), Err(Error::TooMany));
        assert_eq!(expand("a[1-999]b[1-999]"), Err(Error::TooMany));
    }

    proptest::proptest! {
        #[test]
        fn a_compressed_list_expands_to_the_same(hosts in proptest::collection::vec("[a-z]{1,3}(-[a-z])?[0-9]{0,4}", 0..20)) {
            proptest::prop_assert_eq!(expand(&compress(&hosts)).unwrap(), hosts);
        }

        #[test]
        fn no_text_panics(list in ".{0,40}") {
            let _ = expand(&list);
        }
    }
}
