//! JSON objects, one a line (NDJSON), out of a byte stream, however the bytes were cut.
//!
//! A network read may end anywhere; what is not complete is kept, in a buffer that is bounded, so that a peer that never
//! ends its line costs memory only up to the bound. Such a line is dropped and [`Scanner::overflowed`] tells so. A line
//! that came whole is handed on where it lies. What does not end in a line feed is no line. Pure.

/// Most bytes of a line.
const LIMIT: usize = 16 << 20;

/// Finds lines in a byte stream.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// It has grown too large and is thrown away up to its end.
    dropping: bool,
    overflowed: bool,
}

impl Scanner {
    /// Forgets the stream, keeps the memory.
    pub fn reset(&mut self) {
        self.line.clear();
        (self.dropping, self.overflowed) = (false, false);
    }

    /// Takes the next bytes and calls `each` with every line that they complete and that is not blank.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = behind;
            if self.line.is_empty() && !self.dropping {
                hand(line, &mut each);
            } else {
                self.keep(line);
                self.end(&mut each);
            }
        }
        self.keep(rest);
    }

    /// Ends the line that is kept.
    fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if !self.dropping {
            hand(&self.line, each);
        }
        self.line.clear();
        self.dropping = false;
    }

    /// Was a line dropped because it was larger than 16 MiB?
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn keep(&mut self, part: &[u8]) {
        if self.dropping || self.line.len() + part.len() > LIMIT {
            (self.dropping, self.overflowed) = (true, true);
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(part);
        }
    }
}

fn hand(line: &[u8], each: &mut impl FnMut(&[u8])) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        each(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_wherever_the_bytes_are_cut() {
        let text = "{\"a\":\"é\\n\"}\n\r\n{\"b\":1}\r\n{\"c\":2}\n{\"d\"".as_bytes();
        for cut in 0..=text.len() {
            let mut scanner = Scanner::default();
            let mut lines: Vec<String> = Vec::new();
            let mut take = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
            scanner.push(&text[..cut], &mut take);
            scanner.push(&text[cut..], &mut take);
            assert_eq!(
                lines,
                ["{\"a\":\"é\\n\"}", "{\"b\":1}", "{\"c\":2}"],
                "{cut}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_dropped_and_the_next_is_read() {
        let mut scanner = Scanner::default();
        let mut count = 0;
        for _ in 0..17 {
            scanner.push(&vec![b'x'; 1 << 20], |_| count += 1);
        }
        assert!(scanner.overflowed() && count == 0);
        scanner.push(b"\n{}\n", |line| {
            assert_eq!(line, b"{}");
            count += 1;
        });
        assert_eq!(count, 1);
    }
}
