//! Server-sent events out of a byte stream, however the bytes were cut.
//!
//! Only `data` matters to us: comments (llama.cpp's keep-alive pings), `event`, `id` and `retry` are skipped. A network
//! read may end anywhere, also within a line ending or a character; what is not complete is kept, in a buffer that is
//! bounded, so that a peer that never ends its line costs memory only up to the bound. Such an event is dropped and
//! [`Scanner::overflowed`] tells so. An event that came whole is handed on where it lies, without a copy.

/// Most bytes of one event.
const LIMIT: usize = 16 << 20;

/// Finds events in a byte stream.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// Data of the event that has not ended yet.
    data: Vec<u8>,
    /// `data` lines of it; an empty one counts.
    lines: usize,
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

    /// Forgets the stream, keeps the memory.
    pub fn reset(&mut self) {
        self.line.clear();
        self.data.clear();
        self.lines = 0;
        (self.after_return, self.dropping, self.overflowed) = (false, false, false);
    }

    /// Takes the next bytes and calls `each` with the data of every event that they complete.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some((line, behind)) = self.split_line(rest) {
            rest = behind;
            if self.line.is_empty() && !self.dropping {
                // nearly always: an event in one line, and the blank line behind it, are handed on where they lie
                if let Some(value) = value_of_data(line).filter(|_| self.lines == 0)
                    && let [b'\n', behind @ ..] = rest
                {
                    each(value);
                    rest = behind;
                } else {
                    self.end_line(line, &mut each);
                }
            } else {
                self.take(line);
                let mut whole = std::mem::take(&mut self.line);
                self.end_line(&whole, &mut each);
                whole.clear();
                self.line = whole;
            }
        }
        self.take(rest);
    }

    /// Was an event dropped because it was larger than 16 MiB?
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The line that ends in these bytes, and what stands behind its ending.
    fn split_line<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let end = memchr::memchr2(b'\n', b'\r', bytes)?;
        let (line, behind) = (&bytes[..end], &bytes[end + 1..]);
        if bytes[end] == b'\n' {
            return Some((line, behind));
        }
        self.after_return = behind.is_empty();
        Some((line, behind.strip_prefix(b"\n").unwrap_or(behind)))
    }

    fn take(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if self.dropping || self.line.len() + self.data.len() + part.len() > LIMIT {
            self.drop_event();
            // stands for what is thrown away: the line is not blank
            self.line.push(b':');
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn drop_event(&mut self) {
        (self.overflowed, self.dropping) = (true, true);
        (self.line, self.data, self.lines) = (Vec::new(), Vec::new(), 0);
    }

    fn end_line(&mut self, line: &[u8], each: &mut impl FnMut(&[u8])) {
        if line.is_empty() {
            if self.lines > 0 {
                each(&self.data);
            }
            self.data.clear();
            (self.lines, self.dropping) = (0, false);
        } else if let Some(value) = value_of_data(line).filter(|_| !self.dropping) {
            if self.data.len() + value.len() > LIMIT {
                self.drop_event();
                return;
            }
            if self.lines > 0 {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
            self.lines += 1;
        }
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
            scanner.push(part, |data| {
                found.push(String::from_utf8_lossy(data).into_owned());
            });
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
        let mut each = |data: &[u8]| found.push(String::from_utf8_lossy(data).into_owned());
        scanner.push(b"data: ", &mut each);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            scanner.push(&block, &mut each);
        }
        scanner.push(b"\ndata: rest of it\n\ndata: next\n\n", &mut each);
        assert!(scanner.overflowed());
        assert_eq!(found, ["next"]);
    }

    #[test]
    fn an_event_of_too_many_lines_is_dropped_too() {
        let mut scanner = Scanner::new();
        let mut found = Vec::new();
        let mut each = |data: &[u8]| found.push(data.len());
        let line = format!("data: {}\n", "x".repeat(60_000));
        for _ in 0..300 {
            scanner.push(line.as_bytes(), &mut each);
        }
        scanner.push(b"\ndata: next\n\n", &mut each);
        assert!(scanner.overflowed());
        assert_eq!(found, [4]);
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
