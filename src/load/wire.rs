//! One HTTP/1.1 answer out of a byte stream, however the bytes were cut: its head, its body, its end.
//!
//! Heads are read by `httparse`; bodies are counted here, because a body that is handed on where it lies costs nothing,
//! and the load reads one for each token. A body ends by its chunks, its length, or the connection's end. Pure.
//! What can fail is told as a [`Fault`]: no HTTP, a length or a chunk that is none, too large a head.

use std::fmt;

/// Most bytes of a head.
const HEAD_LIMIT: usize = 64 << 10;
/// Most headers of a head.
const HEADERS: usize = 128;
/// Most digits of a chunk's length.
const DIGITS: u8 = 15;

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Is the body a stream: of events, or of lines?
    pub is_stream: bool,
    /// Is it one of JSON objects, one a line?
    pub is_lines: bool,
}

/// Why the bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The head is none.
    Head(httparse::Error),
    /// The head is larger than 64 KiB.
    LargeHead,
    /// A length that is no number.
    Length,
    /// A chunk without a frame.
    Chunk,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(f, "the answer is no HTTP: {error}"),
            Self::LargeHead => f.write_str("the head of the answer is larger than 64 KiB"),
            Self::Length => f.write_str("the length of the answer is no number"),
            Self::Chunk => f.write_str("a chunk of the answer has no valid frame"),
        }
    }
}

/// Where in an answer the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Head,
    /// In a body of which so many bytes are missing.
    Length(u64),
    /// In a body that ends with the connection.
    UntilClosed,
    /// In the line of a chunk's length.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the digits of it.
    Extension(u64),
    /// In a chunk of which so many bytes are missing.
    Chunk(u64),
    /// Behind a chunk: the line's end, of which so many bytes have come.
    ChunkEnd(u8),
    /// In the lines behind the last chunk; is the line empty so far?
    Trailer {
        empty: bool,
    },
    End,
}

/// Reads one answer after another.
#[derive(Debug, Default)]
pub struct Reader {
    at: At,
    /// A head that has not come whole.
    held: Vec<u8>,
    head: Option<Head>,
    closes: bool,
    /// There were bytes behind the end.
    surplus: bool,
}

impl Reader {
    /// Forgets the answer that was read; the next byte is the first of another.
    pub fn reset(&mut self) {
        self.at = At::Head;
        self.held.clear();
        (self.head, self.closes, self.surplus) = (None, false, false);
    }

    /// The head, where it has come.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Has the answer come whole?
    pub fn is_whole(&self) -> bool {
        self.at == At::End
    }

    /// May the connection carry another request?
    pub fn is_reusable(&self) -> bool {
        self.is_whole() && !self.closes && !self.surplus
    }

    /// Is the answer whole now that the connection has ended?
    pub fn ends_when_closed(&mut self) -> bool {
        if self.at == At::UntilClosed {
            self.at = At::End;
        }
        self.is_whole()
    }

    /// Takes the next bytes; hands each piece of the body to `body`.
    ///
    /// # Errors
    /// Bytes that are no HTTP; what comes after that means nothing.
    pub fn push(&mut self, bytes: &[u8], mut body: impl FnMut(Head, &[u8])) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.at {
                At::Head => rest = self.take_head(rest)?,
                At::Length(missing) => {
                    let (piece, behind) = split(rest, missing);
                    self.hand(piece, &mut body);
                    let missing = missing - piece.len() as u64;
                    self.at = if missing == 0 {
                        At::End
                    } else {
                        At::Length(missing)
                    };
                    rest = behind;
                }
                At::UntilClosed => {
                    self.hand(rest, &mut body);
                    rest = &[];
                }
                At::Chunk(missing) => {
                    let (piece, behind) = split(rest, missing);
                    self.hand(piece, &mut body);
                    let missing = missing - piece.len() as u64;
                    self.at = if missing == 0 {
                        At::ChunkEnd(0)
                    } else {
                        At::Chunk(missing)
                    };
                    rest = behind;
                }
                At::End => {
                    self.surplus = true;
                    rest = &[];
                }
                // nearly always, the frame between two chunks has come whole
                At::ChunkEnd(0) if rest.starts_with(b"\r\n") => {
                    self.at = At::Size { size: 0, digits: 0 };
                    rest = &rest[2..];
                }
                At::Size { digits: 0, .. } if let Some((size, behind)) = whole_size(rest) => {
                    self.at = At::Chunk(size);
                    rest = behind;
                }
                _ => {
                    self.at = frame(self.at, rest[0])?;
                    rest = &rest[1..];
                }
            }
        }
        Ok(())
    }

    fn hand(&self, piece: &[u8], body: &mut impl FnMut(Head, &[u8])) {
        if let Some(head) = self.head {
            body(head, piece);
        }
    }

    /// Takes a head, or what there is of it; gives what stands behind it.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let before = self.held.len();
        let length = if before == 0 {
            self.parse(bytes)?
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let length = self.parse(&held)?;
            self.held = held;
            length
        };
        let Some(length) = length else {
            if before == 0 {
                self.held.extend_from_slice(bytes);
            }
            if self.held.len() > HEAD_LIMIT {
                return Err(Fault::LargeHead);
            }
            return Ok(&[]);
        };
        self.held.clear();
        Ok(&bytes[length - before..])
    }

    /// Reads a head; tells its length, where it is whole.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes).map_err(Fault::Head)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            // the answer proper comes behind it
            return Ok(Some(length));
        }
        let mut head = Head {
            status,
            is_stream: false,
            is_lines: false,
        };
        let (mut chunked, mut size) = (false, None);
        let mut stays = response.version == Some(1);
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-type") {
                head.is_lines = begins_with(value, b"application/x-ndjson");
                head.is_stream = head.is_lines || begins_with(value, b"text/event-stream");
            } else if header.name.eq_ignore_ascii_case("content-length") {
                let told = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                let told: u64 = told.ok_or(Fault::Length)?;
                if size.is_some_and(|size| size != told) {
                    return Err(Fault::Length);
                }
                size = Some(told);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked |= words(value).any(|word| word.eq_ignore_ascii_case(b"chunked"));
            } else if header.name.eq_ignore_ascii_case("connection") {
                for word in words(value) {
                    stays = (stays || word.eq_ignore_ascii_case(b"keep-alive"))
                        && !word.eq_ignore_ascii_case(b"close");
                }
            }
        }
        self.at = if matches!(status, 204 | 304) {
            At::End
        } else if chunked {
            At::Size { size: 0, digits: 0 }
        } else {
            match size {
                Some(0) => At::End,
                Some(size) => At::Length(size),
                None => At::UntilClosed,
            }
        };
        self.closes = !stays || self.at == At::UntilClosed;
        self.head = Some(head);
        Ok(Some(length))
    }
}

/// The length of a chunk in a line that is whole and plain, and what stands behind it.
fn whole_size(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut size = 0;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        if *byte == b'\r' {
            let behind = bytes[at..].strip_prefix(b"\r\n")?;
            return (size > 0).then_some((size, behind));
        }
        size = size * 16 + u64::from(char::from(*byte).to_digit(16)?);
    }
    None
}

/// The next place within the frame of chunks.
fn frame(at: At, byte: u8) -> Result<At, Fault> {
    Ok(match (at, byte) {
        (At::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS => {
            let digit = char::from(byte).to_digit(16).unwrap_or(0);
            At::Size {
                size: size * 16 + u64::from(digit),
                digits: digits + 1,
            }
        }
        (At::Size { size, digits: 1.. }, b'\r' | b';' | b' ' | b'\t') => At::Extension(size),
        (At::Size { size, digits: 1.. } | At::Extension(size), b'\n') => match size {
            0 => At::Trailer { empty: true },
            size => At::Chunk(size),
        },
        (At::Extension(_), _) | (At::Trailer { .. }, b'\r') => at,
        (At::ChunkEnd(0), b'\r') => At::ChunkEnd(1),
        (At::ChunkEnd(1), b'\n') => At::Size { size: 0, digits: 0 },
        (At::Trailer { empty: true }, b'\n') => At::End,
        (At::Trailer { .. }, byte) => At::Trailer {
            empty: byte == b'\n',
        },
        _ => return Err(Fault::Chunk),
    })
}

fn split(bytes: &[u8], length: u64) -> (&[u8], &[u8]) {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.split_at(length.min(bytes.len()))
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn begins_with(value: &[u8], start: &[u8]) -> bool {
    let begin = value.get(..start.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body and how it ended, of an answer that comes in these parts.
    fn read<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> (String, Result<bool, Fault>, Reader) {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for part in parts {
            if let Err(fault) = reader.push(part, |_, piece| found.extend_from_slice(piece)) {
                return (String::new(), Err(fault), reader);
            }
        }
        let whole = reader.is_whole();
        (
            String::from_utf8_lossy(&found).into_owned(),
            Ok(whole),
            reader,
        )
    }

    const OK: &str = "HTTP/1.1 200 OK\r\n";

    #[test]
    fn bodies_and_their_ends() {
        let table = [
            // (head, body, wanted, whole, may carry another)
            ("content-length: 3\r\n\r\n", "abc", "abc", true, true),
            ("content-length: 4\r\n\r\n", "abc", "abc", false, false),
            ("content-length: 3\r\n\r\n", "abcd", "abc", true, false),
            ("content-length: 0\r\n\r\n", "", "", true, true),
            ("\r\n", "abc", "abc", false, false),
            (
                "Transfer-Encoding: chunked\r\n\r\n",
                "2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                "abc",
                true,
                true,
            ),
            (
                "transfer-encoding: gzip, chunked\r\n\r\n",
                "A \r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n",
                "0123456789",
                true,
                true,
            ),
            (
                "transfer-encoding: chunked\r\n\r\n",
                "2\r\nab\r\n0\r\n",
                "ab",
                false,
                false,
            ),
            (
                "connection: close\r\ncontent-length: 1\r\n\r\n",
                "a",
                "a",
                true,
                false,
            ),
            (
                "Connection: Keep-Alive, x\r\ncontent-length: 1\r\n\r\n",
                "a",
                "a",
                true,
                true,
            ),
        ];
        for (head, body, wanted, whole, reusable) in table {
            let answer = format!("{OK}{head}{body}");
            let (found, ended, reader) = read([answer.as_bytes()]);
            assert_eq!((found.as_str(), ended), (wanted, Ok(whole)), "{answer}");
            assert_eq!(reader.is_reusable(), reusable, "{answer}");
        }
    }

    #[test]
    fn an_old_server_closes_unless_it_says_otherwise() {
        for (head, reusable) in [("", false), ("connection: keep-alive\r\n", true)] {
            let answer = format!("HTTP/1.0 200 OK\r\n{head}content-length: 1\r\n\r\na");
            assert_eq!(read([answer.as_bytes()]).2.is_reusable(), reusable);
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        let answer = format!("{OK}Content-Type: Text/Event-Stream; charset=utf-8\r\n\r\ndata");
        let (_, ended, mut reader) = read([answer.as_bytes()]);
        assert_eq!(ended, Ok(false));
        assert!(reader.head().is_some_and(|head| head.is_stream));
        assert!(reader.ends_when_closed() && !reader.is_reusable());
    }

    #[test]
    fn an_interim_answer_is_none() {
        let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{OK}content-length: 2\r\n\r\nok");
        for parts in [
            vec![answer.as_bytes()],
            answer.as_bytes().chunks(1).collect(),
        ] {
            let (found, ended, reader) = read(parts);
            assert_eq!((found.as_str(), ended), ("ok", Ok(true)));
            assert_eq!(reader.head().map(|head| head.status), Some(200));
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let large = format!("{OK}x: {}", "y".repeat(70_000));
        let table = [
            (
                "SSH-2.0-OpenSSH\r\n".to_owned(),
                Fault::Head(httparse::Error::Version),
            ),
            (large, Fault::LargeHead),
            (format!("{OK}content-length: -1\r\n\r\n"), Fault::Length),
            (
                format!("{OK}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
                Fault::Length,
            ),
            (
                format!("{OK}transfer-encoding: chunked\r\n\r\nxyz"),
                Fault::Chunk,
            ),
            (
                format!("{OK}transfer-encoding: chunked\r\n\r\n\r\n"),
                Fault::Chunk,
            ),
            (
                format!("{OK}transfer-encoding: chunked\r\n\r\n1\r\nabc"),
                Fault::Chunk,
            ),
            (
                format!("{OK}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
                Fault::Chunk,
            ),
        ];
        for (answer, fault) in table {
            assert_eq!(read([answer.as_bytes()]).1, Err(fault), "{answer:.80}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_the_same_however_it_is_cut(
            pieces in prop::collection::vec("[a-z\r\n]{0,20}", 0..6),
            chunked: bool,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let body = pieces.concat();
            let text = if chunked {
                let chunks = pieces.iter().filter(|piece| !piece.is_empty());
                let chunks: Vec<_> = chunks.map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
                format!("{OK}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.concat())
            } else {
                format!("{OK}content-length: {}\r\n\r\n{body}", body.len())
            };
            let stream = text.into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            for parts in [
                at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect::<Vec<_>>(),
                stream.chunks(1).collect(),
            ] {
                let (found, ended, reader) = read(parts);
                prop_assert_eq!(&found, &body);
                prop_assert_eq!(ended, Ok(true));
                prop_assert!(reader.is_reusable());
            }
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300), chunked: bool) {
            let head = if chunked { "transfer-encoding: chunked\r\n\r\n" } else { "" };
            let mut stream = format!("{OK}{head}").into_bytes();
            stream.extend(bytes);
            let whole = read([stream.as_slice()]);
            let each = read(stream.chunks(1));
            prop_assert_eq!(whole.1.is_ok(), each.1.is_ok());
        }
    }
}
