//! Server-sent events out of a byte stream, however the bytes were cut.
//!
//! Only `data` matters to us: comments (llama.cpp's keep-alive pings), `event`, `id` and `retry` are skipped. A network
//! read may end anywhere, also within a line ending or a character; what is not complete is kept, in a buffer that is
//! bounded, so that a peer that never ends its line costs memory only up to the bound. Such an event is dropped and
//! [`Scanner::overflowed`] tells so. Bytes that are no UTF-8 are replaced, never refused.

/// Most bytes of one event.
const LIMIT: usize = 16 << 20;

/// Finds events in a byte stream.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// Data of the event that has not ended yet; `None` until a `data` line, be it empty.
    data: Option<Vec<u8>>,
    /// Was the last byte a carriage return, so that a line feed now belongs to it?
    after_return: bool,
    /// The event has grown too large and is thrown away up to its end.
    dropping: bool,
    overflowed: bool,
}

impl Scanner {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `each` with the data of every event that they complete.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let is_return = rest[end] == b'\r';
            self.take(&rest[..end]);
            self.end_line(each);
            rest = &rest[end + 1..];
            if is_return {
                if rest.is_empty() {
                    self.after_return = true;
                }
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        self.take(rest);
    }

    /// Was an event dropped because it was larger than 16 MiB?
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn take(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if self.dropping {
            // stands for what is thrown away: the line is not blank
            self.line = vec![b':'];
            return;
        }
        if self.line.len() + self.data.as_ref().map_or(0, Vec::len) + part.len() > LIMIT {
            self.overflowed = true;
            self.dropping = true;
            self.line = vec![b':'];
            self.data = None;
            return;
        }
        self.line.extend_from_slice(part);
    }

    fn end_line(&mut self, each: &mut dyn FnMut(&str)) {
        if self.line.is_empty() {
            if let Some(data) = self.data.take() {
                each(&String::from_utf8_lossy(&data));
            }
            self.dropping = false;
        } else if let Some(value) = value_of_data(&self.line) {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        self.line.clear();
    }
}

/// The value of a `data` field; `None` for comments and other fields.
fn value_of_data(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut scanner = Scanner::new();
        let mut found = Vec::new();
        for part in parts {
            scanner.push(part, &mut |data| found.push(data.to_owned()));
        }
        found
    }

    #[test]
    fn events_of_a_stream() {
        let table: [(&str, &[&str]); 9] = [
            ("data: a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata:b\r\n\r\n", &["a", "b"]),
            ("data: a\rdata: b\r\r", &["a\nb"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            (": ping\n\ndata: a\n\n:\n\n", &["a"]),
            ("event: x\nid: 1\nretry: 5\ndata: a\n\n", &["a"]),
            ("data\n\n", &[""]),
            ("database: a\n\n", &[]),
            ("data: without an end", &[]),
        ];
        for (stream, wanted) in table {
            assert_eq!(events([stream.as_bytes()]), wanted, "{stream:?}");
        }
    }

    #[test]
    fn too_large_an_event_is_dropped_and_the_next_one_is_not() {
        let mut scanner = Scanner::new();
        let mut found = Vec::new();
        let mut each = |data: &str| found.push(data.to_owned());
        scanner.push(b"data: ", &mut each);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            scanner.push(&block, &mut each);
        }
        scanner.push(b"\ndata: rest of it\n\ndata: next\n\n", &mut each);
        assert!(scanner.overflowed());
        assert_eq!(found, ["next"]);
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_the_stream_is_cut(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["data: ", "data:", ":", "é", "x", "\n", "\r\n", "\n\n", "\r", " ", "event: e"]),
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = pieces.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let parts = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
            let each_byte = stream.chunks(1);
            let whole = events([stream.as_slice()]);
            prop_assert_eq!(&events(parts), &whole);
            prop_assert_eq!(&events(each_byte), &whole);
        }
    }
}
