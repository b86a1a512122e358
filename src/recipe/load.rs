//! YAML text → a tree whose every node knows its line and column.
//!
//! Built on the event stream of `saphyr-parser`, not on its tree: events come without recursion, so depth, size and the
//! expansion of aliases are bounded here ([`MAX_DEPTH`], [`MAX_NODES`]), and a key that stands twice is a fault with two
//! places instead of a parse error. Scalars keep their text: what `8`, `"8"` or `04:00:00` means is decided by the type
//! that the schema wants, so arguments keep their spelling (`0.10`) and YAML 1.1's surprises (sexagesimal numbers,
//! `no` as a boolean) cannot happen.

use std::{collections::HashMap, time::Duration};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::fault::{Findings, Position};
use crate::units;

/// Nesting at the most.
pub const MAX_DEPTH: usize = 32;
/// Nodes at the most, those that aliases repeat included.
pub const MAX_NODES: usize = 20_000;
/// Bytes at the most.
pub const MAX_BYTES: usize = 1 << 20;

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Position,
    /// The value.
    pub value: Value,
}

/// A value of YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text as written; `plain` where neither quoted nor a block.
    Scalar {
        /// The text.
        text: String,
        /// Written without quotes?
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub at: Position,
    /// The key.
    pub name: String,
}

impl Node {
    /// A quoted text at a place.
    pub fn text_at(at: Position, text: impl Into<String>) -> Self {
        Self {
            at,
            value: Value::Scalar {
                text: text.into(),
                plain: false,
            },
        }
    }

    /// An empty mapping at a place.
    pub const fn map_at(at: Position) -> Self {
        Self {
            at,
            value: Value::Map(Vec::new()),
        }
    }

    /// Is it nothing (`key:`, `~`, `null`)?
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key; a key with nothing behind it counts as absent.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(name, _)| name.name == key)
                .map(|(_, node)| node)
                .filter(|node| !node.is_null()),
            _ => None,
        }
    }

    /// The value at a path such as `service.container.image`.
    pub fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none where it is no mapping.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none where it is no list.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Takes a key out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<(Key, Self)> {
        match &mut self.value {
            Value::Map(entries) => {
                let index = entries.iter().position(|(name, _)| name.name == key)?;
                Some(entries.remove(index))
            }
            _ => None,
        }
    }

    /// Sets the value at a path, making the mappings on the way; `false` where something else than a mapping is there.
    pub fn put(&mut self, path: &str, key_at: Position, node: Self) -> bool {
        let (head, rest) = path
            .split_once('.')
            .map_or((path, None), |(head, rest)| (head, Some(rest)));
        if self.is_null() {
            self.value = Value::Map(Vec::new());
        }
        match &mut self.value {
            Value::Map(entries) => {
                let index = if let Some(index) = entries.iter().position(|(k, _)| k.name == head) {
                    index
                } else {
                    let key = Key {
                        at: key_at,
                        name: head.to_owned(),
                    };
                    entries.push((key, Self::map_at(key_at)));
                    entries.len() - 1
                };
                if let Some(rest) = rest {
                    return entries[index].1.put(rest, key_at, node);
                }
                entries[index].1 = node;
                true
            }
            Value::List(items) => match (head.parse::<usize>().ok(), rest) {
                (Some(index), None) if index < items.len() => {
                    items[index] = node;
                    true
                }
                (Some(index), Some(rest)) if index < items.len() => {
                    items[index].put(rest, key_at, node)
                }
                _ => false,
            },
            Value::Scalar { .. } => false,
        }
    }

    /// Moves the whole tree to one place: that of the override it came from.
    pub fn move_to(&mut self, at: Position) {
        self.at = at;
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.move_to(at)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.at = at;
                    node.move_to(at);
                }
            }
        }
    }

    /// The text of a scalar that is not nothing.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// A whole number, also where it is quoted.
    pub fn as_u64(&self) -> Option<u64> {
        let text = self.as_text()?.trim();
        let text = text.strip_prefix('+').unwrap_or(text);
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).ok();
        }
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and in range"
            )]
            (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
        })
    }

    /// A finite number, also where it is quoted.
    pub fn as_f64(&self) -> Option<f64> {
        let text = self.as_text()?.trim();
        text.bytes()
            .any(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<f64>().ok())
            .flatten()
            .filter(|number| number.is_finite())
    }

    /// A boolean, in the spellings of YAML 1.1 and 1.2.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// A duration: seconds, `20m`, `1h30m`, `04:00:00`.
    pub fn as_duration(&self) -> Option<Duration> {
        units::parse_duration(self.as_text()?)
    }

    /// Memory in GiB: a number, or `64GB`, `64GiB`, `64G`, `512MB`, `1T`.
    pub fn as_gigabytes(&self) -> Option<f64> {
        if let Some(number) = self.as_f64() {
            return Some(number);
        }
        let text = self.as_text()?.trim().to_ascii_lowercase();
        let split = text.find(|c: char| c.is_ascii_alphabetic())?;
        let number: f64 = text[..split].trim().parse().ok()?;
        let factor = match &text[split..] {
            "m" | "mb" | "mib" => 1.0 / 1024.0,
            "g" | "gb" | "gib" => 1.0,
            "t" | "tb" | "tib" => 1024.0,
            _ => return None,
        };
        Some(number * factor).filter(|number| number.is_finite())
    }

    /// What it is, for an error: `the text "many"`, `the number 3`, `a list`, `nothing`.
    pub fn found(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { text, plain: true } if self.as_f64().is_some() => {
                format!("the number {text}")
            }
            Value::Scalar { text, plain: true } if text == "true" || text == "false" => {
                format!("the boolean {text}")
            }
            Value::Scalar { text, .. } => {
                let short: String = text.chars().take(40).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("the text {:?}", format!("{short}{dots}"))
            }
        }
    }
}

/// Reads one YAML document; `None` with a fault noted where that cannot be done.
pub fn load(text: &str, findings: &mut Findings) -> Option<Node> {
    if text.len() > MAX_BYTES {
        findings.fault(
            Position::START,
            format!("is larger than {} KiB", MAX_BYTES / 1024),
        );
        return None;
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.event(event, position(&span.start), findings),
            Err(error) => Err((position(error.marker()), error.info().to_owned())),
        };
        if let Err((at, message)) = step {
            findings.fault(at, format!("is no valid YAML: {message}"));
            return None;
        }
    }
    if builder.root.is_none() {
        findings.fault(Position::START, "is empty");
    }
    builder.root
}

fn position(marker: &Marker) -> Position {
    Position::File {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

type Step = Result<(), (Position, String)>;

/// What is being built, innermost last.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    stack: Vec<(Position, usize, Open)>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Position, findings: &mut Findings) -> Step {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err((at, "one document a file".to_owned()));
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.is_some(), at)?;
                self.open(at, anchor, Open::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.is_some(), at)?;
                self.open(at, anchor, Open::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((start, anchor, open)) = self.stack.pop() {
                    let value = match open {
                        Open::List(items) => Value::List(items),
                        Open::Map(entries, _) => Value::Map(entries),
                    };
                    self.add(Node { at: start, value }, anchor, findings)?;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let core = tag.as_ref().is_none_or(|tag| {
                    let known = ["str", "int", "float", "bool", "null"];
                    tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str())
                });
                no_tag(!core, at)?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain,
                };
                self.add(Node { at, value }, anchor, findings)?;
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err((at, "an alias inside its own anchor".to_owned()));
                };
                self.nodes += size;
                if self.nodes > MAX_NODES {
                    return Err((at, format!("aliases make more than {MAX_NODES} values")));
                }
                let mut node = node.clone();
                node.at = at;
                self.add(node, 0, findings)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, at: Position, anchor: usize, open: Open) -> Step {
        if self.stack.len() >= MAX_DEPTH {
            return Err((at, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.stack.push((at, anchor, open));
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, findings: &mut Findings) -> Step {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err((node.at, format!("more than {MAX_NODES} values")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some((_, _, Open::List(items))) => items.push(node),
            Some((_, _, Open::Map(entries, pending))) => match pending.take() {
                None => {
                    let Value::Scalar { text, .. } = node.value else {
                        return Err((node.at, "a key must be a word".to_owned()));
                    };
                    *pending = Some(Key {
                        at: node.at,
                        name: text,
                    });
                }
                Some(key) => match entries.iter().find(|(known, _)| known.name == key.name) {
                    Some((first, _)) => {
                        let line = match first.at {
                            Position::File { line, .. } => line,
                            Position::Override(_) => 0,
                        };
                        findings.fault(
                            key.at,
                            format!("key {:?} stands here again, first in line {line}", key.name),
                        );
                    }
                    None => entries.push((key, node)),
                },
            },
        }
        Ok(())
    }
}

fn no_tag(tagged: bool, at: Position) -> Step {
    if tagged {
        Err((at, "tags (`!name`) mean nothing here".to_owned()))
    } else {
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| 1 + size(node)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recipe::fault::Origin;

    fn read(text: &str) -> Result<Node, String> {
        let mut findings = Findings::default();
        let node = load(text, &mut findings);
        let origin = Origin {
            path: "x.yaml",
            overrides: &[],
        };
        findings
            .finish(node, &origin)
            .map(|(node, _)| node)
            .map_err(|faults| faults.to_string())
    }

    #[test]
    fn nodes_know_line_and_column() {
        let root = read("a: 1\nb:\n  cé: [x, \"7\"]\n").unwrap();
        let list = root.find("b.cé").unwrap();
        assert_eq!(list.at, Position::File { line: 3, column: 7 });
        assert_eq!(list.items()[1].as_u64(), Some(7));
        assert_eq!(
            list.items()[1].at,
            Position::File {
                line: 3,
                column: 11
            }
        );
        assert_eq!(
            root.entries()[1].0.at,
            Position::File { line: 2, column: 1 }
        );
    }

    #[test]
    fn scalars_are_read_as_wanted() {
        let root = read("{t: 04:00:00, n: 1e3, m: 64GB, h: 512 MB, y: yes, e: , s: '~', big: 99999999999999999:00:00}")
            .unwrap();
        let get = |key| root.get(key);
        assert_eq!(
            get("t").unwrap().as_duration(),
            Some(Duration::from_hours(4))
        );
        assert_eq!(get("n").unwrap().as_u64(), Some(1000));
        assert_eq!(get("m").unwrap().as_gigabytes(), Some(64.0));
        assert_eq!(get("h").unwrap().as_gigabytes(), Some(0.5));
        assert_eq!(get("y").unwrap().as_bool(), Some(true));
        assert_eq!(get("e"), None);
        assert_eq!(get("s").unwrap().as_text(), Some("~"));
        assert_eq!(get("big").unwrap().as_duration(), None);
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        insta::assert_snapshot!(read("a: [1, 2\nb: 3\n").unwrap_err(), @r##"x.yaml:2:2: is no valid YAML: illegal placement of ':' indicator"##);
        insta::assert_snapshot!(read("a: 1\nb: 2\na: 3\n").unwrap_err(), @r##"x.yaml:3:1: key "a" stands here again, first in line 1"##);
        insta::assert_snapshot!(read("").unwrap_err(), @r##"x.yaml:1:1: is empty"##);
        insta::assert_snapshot!(read("a: 1\n---\nb: 1\n").unwrap_err(), @r##"x.yaml:2:1: is no valid YAML: one document a file"##);
        insta::assert_snapshot!(read("a: !!python/object x\n").unwrap_err(), @r##"x.yaml:1:4: is no valid YAML: tags (`!name`) mean nothing here"##);
    }

    #[test]
    fn bombs_are_bounded() {
        let deep = "[".repeat(100);
        assert!(read(&deep).unwrap_err().contains("nested deeper than 32"));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"- ".repeat(100_000)).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let last = format!("*a{}", level - 1);
            let row = vec![last; 10].join(", ");
            laughs.extend([format!("a{level}: &a{level} [{row}]\n")]);
        }
        assert!(read(&laughs).unwrap_err().contains("aliases make more"));
        assert!(read("a: &a [*a]").unwrap_err().contains("x.yaml:1:"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }

        #[test]
        fn nothing_that_looks_like_yaml_panics(
            text in "([a-c]{1,2}|: |:|\n|  |- |-|\\[|\\]|\\{|\\}|, |\\?|\\? |\\||>|\"|'|&a |\\*a |!|!!str |#|%|---|\\.\\.\\.|\t|\r|é|\u{0}){0,40}"
        ) {
            let _ = read(&text);
        }
    }
}
