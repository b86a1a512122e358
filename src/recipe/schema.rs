//! What a recipe may say, as data: one [`Field`] a key, with type, default and one line of documentation.
//!
//! The same description checks recipes and site files (`check`), expands their variables (`expand`), hands an override
//! to the recipes that know its key, and writes the JSON Schema and the reference (`describe`). A key that is added to
//! the tables is therefore known everywhere at once. What this version cannot do yet stands here too ([`Type::Choice`],
//! [`Type::One`]), so that it is refused by name and not taken for a slip of the pen.

use super::Kind;

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// Any text on one line or several.
    Text,
    /// A word that is safe as the name of a file: letters, digits, `.`, `_`, `-`.
    Name,
    /// True or false.
    Bool,
    /// A whole number in a range.
    Whole {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A number in a range.
    Number {
        /// Bound below …
        min: f64,
        /// … which itself is not allowed?
        above: bool,
        /// Bound above.
        max: f64,
    },
    /// A duration; zero only where the flag is set.
    Duration {
        /// May it be zero?
        zero: bool,
    },
    /// Memory in GiB.
    Memory,
    /// A port, or `auto`.
    Port,
    /// A port, or the placeholder of one of several.
    PortPlace,
    /// Number one; more is what this version cannot do yet. The text says how to have `{N}` without it.
    One(&'static str),
    /// One word of several.
    Choice {
        /// Words that work.
        now: &'static [&'static str],
        /// Words that will.
        later: &'static [&'static str],
    },
    /// A list.
    List(&'static Self),
    /// Words of a program and its arguments, in which placeholders are filled in: `{port}`.
    Arguments,
    /// A mapping of any names to text.
    TextMap,
    /// A mapping of any names to anything.
    AnyMap,
    /// Anything.
    Any,
    /// One value, or a list of such.
    OneOrMore(&'static Self),
    /// A mapping of any names to durations.
    DurationMap,
    /// A mapping of known keys.
    Map(&'static [Field]),
    /// A plain value, or a mapping of known keys in its place.
    Or(&'static Self, &'static [Field]),
}

/// A key that is known.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Type,
    /// One line of documentation.
    pub doc: &'static str,
    /// Must it be there?
    pub required: bool,
    /// What holds where it is not there, in words.
    pub default: Option<&'static str>,
    /// Are `${VARIABLES}` in it expanded?
    pub expanded: bool,
}

impl Field {
    /// A field that may be left out.
    pub const fn new(name: &'static str, kind: Type, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            doc,
            required: false,
            default: None,
            expanded: false,
        }
    }

    /// The same, which must be there.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same, with what holds where it is left out.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// The same, with variables expanded.
    #[must_use]
    pub const fn expanded(mut self) -> Self {
        self.expanded = true;
        self
    }
}

impl Type {
    /// What is wanted, as an error says it: `a whole number of 1 or more`.
    pub fn wanted(&self) -> String {
        match *self {
            Self::Text => "text".to_owned(),
            Self::Name => {
                "a name of letters, digits, `.`, `_` and `-`, at most 64 characters".to_owned()
            }
            Self::Bool => "true or false".to_owned(),
            Self::Whole { min, max: u64::MAX } => format!("a whole number of {min} or more"),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number {
                min,
                above: true,
                max: f64::INFINITY,
            } => format!("a number above {min}"),
            Self::Number {
                min,
                max: f64::INFINITY,
                ..
            } => format!("a number of {min} or more"),
            Self::Number { min, above, max } => {
                let bound = if above { "above" } else { "from" };
                format!("a number {bound} {min} to {max}")
            }
            Self::Duration { zero: true } => {
                "a duration such as 90, 500ms, 20m or 04:00:00".to_owned()
            }
            Self::Duration { zero: false } => {
                "a duration above 0 such as 90, 500ms, 20m or 04:00:00".to_owned()
            }
            Self::Memory => "memory in GiB such as 64, \"64GB\" or \"512MB\"".to_owned(),
            Self::Port => "a port from 1 to 65535, or auto".to_owned(),
            Self::PortPlace => {
                "a port from 1 to 65535, or \"{port2}\" for the second of service.ports".to_owned()
            }
            Self::One(_) => "1".to_owned(),
            Self::Choice { now, .. } => format!("one of {}", now.join(", ")),
            Self::List(item) => format!("a list, each {}", item.wanted()),
            Self::Arguments => "a list of words".to_owned(),
            Self::TextMap => "a mapping of names to text".to_owned(),
            Self::AnyMap => "a mapping of names to anything".to_owned(),
            Self::Any => "anything".to_owned(),
            Self::OneOrMore(item) => format!("{}, or a list of such", item.wanted()),
            Self::DurationMap => "a mapping of names to durations".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::Or(plain, fields) => {
                let keys: Vec<_> = fields.iter().map(|field| field.name).collect();
                format!("{}, or a mapping of {}", plain.wanted(), keys.join(", "))
            }
        }
    }
}

/// The known key that is nearest to one that is not known; `None` where none is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key of another tool may be long; comparing it would cost more than it tells.
    if word.len() > 64 {
        return None;
    }
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| {
            let word = word.to_lowercase();
            // Half a word is nearer than any other: `closed` means `closed-loop`.
            let begun = word.len() >= 3 && candidate.starts_with(&word);
            let distance = strsim::damerau_levenshtein(&word, candidate);
            (if begun { 0 } else { distance }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Does this kind of recipe know a key of this path (`workload.seed`, `targets.0.port`)?
pub fn knows(kind: Kind, path: &str) -> bool {
    let mut fields = super::tables::fields(kind);
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        let Some(field) = fields.iter().find(|field| field.name == segment) else {
            return false;
        };
        if segments.peek().is_none() {
            return true;
        }
        let mut kind = field.kind;
        if let Type::List(item) = kind {
            segments.next();
            kind = *item;
        }
        match kind {
            Type::Map(inner) | Type::Or(_, inner) => fields = inner,
            Type::TextMap | Type::AnyMap | Type::Any | Type::Arguments => return true,
            _ => return segments.peek().is_none(),
        }
    }
    true
}

/// Every path of a table, with its field, depth first; elements of lists as `targets[]`.
pub fn paths(fields: &'static [Field]) -> Vec<(String, &'static Field)> {
    let mut list = Vec::new();
    walk(fields, "", &mut list);
    list
}

fn walk(fields: &'static [Field], prefix: &str, list: &mut Vec<(String, &'static Field)>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        list.push((path.clone(), field));
        match field.kind {
            Type::Map(inner) | Type::Or(_, inner) => walk(inner, &format!("{path}."), list),
            Type::List(Type::Map(inner)) => walk(inner, &format!("{path}[]."), list),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_near() {
        let known = ["concurrent_users", "think_time_ms", "seed"];
        assert_eq!(nearest("concurent_users", known), Some("concurrent_users"));
        assert_eq!(nearest("Seed", known), Some("seed"));
        assert_eq!(nearest("banana", known), None);
    }

    #[test]
    fn paths_are_known_by_kind() {
        assert!(knows(Kind::Client, "workload.concurrent_users"));
        assert!(!knows(Kind::Server, "workload.concurrent_users"));
        assert!(knows(Kind::Server, "service.env.OMP_NUM_THREADS"));
        assert!(knows(Kind::Server, "service.ports.0"));
        assert!(knows(Kind::Monitor, "targets.0.port"));
        assert!(!knows(Kind::Monitor, "targets.0.pot"));
        assert!(!knows(Kind::Monitor, ""));
    }
}
