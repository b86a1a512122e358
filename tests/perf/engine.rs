//! An engine of exact times on one core: prepared bytes, one epoll loop, a timer of its own, and a log of what it did.
//!
//! A token is written when it is due (`--ttft-us` after its request came to this machine, then each `--gap-us`), by absolute times, so
//! that lateness does not add up. With both 0 it goes as fast as it can, a token to each stream in turn, as a batch of a
//! real engine does. With `--log`, every true time is kept and written at the end, which is when standard input closes.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, BufWriter, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use nix::{
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::{TimeSpec, TimeValLike as _},
        timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};

use crate::{key, now, pin};

/// How the engine answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// CPU to run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Microseconds to the first token.
    #[arg(long, default_value_t = 0)]
    ttft_us: u64,
    /// Microseconds between tokens.
    #[arg(long, default_value_t = 0)]
    gap_us: u64,
    /// The first answer on a connection ends early, each at another token: users that began together go apart, and
    /// stay so. Tokens are then due at any time, too, and not all at once.
    #[arg(long)]
    stagger: bool,
    /// Tokens in a write; 0: the whole answer is one.
    #[arg(long, default_value_t = 1)]
    per_write: u64,
    /// Keeps every time of every request, and writes them here.
    #[arg(long)]
    log: Option<PathBuf>,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 03:16:27 GMT\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const INPUT: u64 = u64::MAX - 2;

/// What vLLM says, as chunks of HTTP.
struct Bytes {
    head: Vec<u8>,
    token: Vec<u8>,
    last: Vec<u8>,
}

fn chunk(data: &str) -> Vec<u8> {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

impl Bytes {
    fn new() -> Self {
        let token = |finish: &str| {
            chunk(&format!(
                r#"{{"id":"cmpl-9bd6ea9cc39aaf71","object":"text_completion","created":1795490188,"model":"m","choices":[{{"index":0,"text":" word","logprobs":null,"finish_reason":{finish},"stop_reason":null,"prompt_token_ids":null,"token_ids":null}}]}}"#
            ))
        };
        Self {
            head: HEAD.into(),
            token: token("null"),
            last: token("\"length\""),
        }
    }

    fn end(prompt: u64, output: u64) -> Vec<u8> {
        let all = prompt + output;
        let mut bytes = chunk(&format!(
            r#"{{"id":"cmpl-9bd6ea9cc39aaf71","object":"text_completion","created":1795490188,"model":"m","choices":[],"usage":{{"prompt_tokens":{prompt},"total_tokens":{all},"completion_tokens":{output}}}}}"#
        ));
        bytes.extend(chunk("[DONE]"));
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// A request being answered.
struct Answer {
    wanted: u64,
    sent: u64,
    prompt_tokens: u64,
    due: u64,
    /// Key, time of the request, time of each token.
    log: Vec<u64>,
}

struct Connection {
    socket: TcpStream,
    /// What came of a request that is not whole.
    input: Vec<u8>,
    /// What the socket did not take.
    output: Vec<u8>,
    answer: Option<Answer>,
    used: bool,
}

struct Engine {
    flags: Flags,
    bytes: Bytes,
    epoll: Epoll,
    timer: TimerFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sequence: u64,
    logs: Vec<Vec<u64>>,
    first: u64,
    requests: u64,
    tokens: u64,
    writes: u64,
    late: u64,
}

/// Runs until standard input closes.
pub(crate) fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    pin(flags.cpu)?;
    let listener = listener()?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let timer = TimerFd::new(
        nix::sys::timerfd::ClockId::CLOCK_MONOTONIC,
        TimerFlags::TFD_NONBLOCK,
    )?;
    let input = EpollFlags::EPOLLIN;
    epoll.add(&listener, EpollEvent::new(input, LISTENER))?;
    epoll.add(&timer, EpollEvent::new(input, TIMER))?;
    epoll.add(io::stdin(), EpollEvent::new(input, INPUT))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    io::stdout().flush()?;
    let mut engine = Engine {
        bytes: Bytes::new(),
        epoll,
        timer,
        listener,
        connections: Vec::new(),
        due: BinaryHeap::new(),
        sequence: 0,
        logs: Vec::new(),
        first: 0,
        requests: 0,
        tokens: 0,
        writes: 0,
        late: 0,
        flags,
    };
    engine.serve()?;
    engine.tell()?;
    Ok(ExitCode::SUCCESS)
}

/// With the longest queue of connections that the system gives: ten thousand come at once.
fn listener() -> anyhow::Result<TcpListener> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

impl Engine {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut events = vec![EpollEvent::empty(); 1024];
        let mut armed = 0;
        loop {
            let next = self.due.peek().map(|Reverse((due, ..))| *due);
            let timeout = match next {
                Some(due) if due <= now() => EpollTimeout::ZERO,
                Some(due) if due == armed => EpollTimeout::NONE,
                Some(due) => {
                    let wait = Duration::from_nanos(due.saturating_sub(now()).max(1));
                    let once = Expiration::OneShot(TimeSpec::from_duration(wait));
                    self.timer.set(once, TimerSetTimeFlags::empty())?;
                    armed = due;
                    EpollTimeout::NONE
                }
                None => EpollTimeout::NONE,
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                other => other?,
            };
            for event in &events[..count] {
                match event.data() {
                    INPUT => return Ok(()),
                    TIMER => armed = 0,
                    LISTENER => self.accept()?,
                    slot => self.read(usize::try_from(slot)?),
                }
            }
            // a look at the sockets after every few tokens: requests do not wait for all streams
            for _ in 0..64 {
                match self.due.peek() {
                    Some(Reverse((due, ..))) if *due <= now() => {}
                    _ => break,
                }
                let Some(Reverse((_, _, slot))) = self.due.pop() else {
                    break;
                };
                self.write(slot);
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            if self.flags.log.is_some() {
                setsockopt(&socket, ReceiveTimestampns, &true)?;
            }
            let slot = self.connections.len();
            let event = EpollEvent::new(EpollFlags::EPOLLIN, slot as u64);
            self.epoll.add(socket.as_fd(), event)?;
            self.connections.push(Some(Connection {
                socket,
                input: Vec::new(),
                output: Vec::new(),
                answer: None,
                used: false,
            }));
        }
        Ok(())
    }

    fn read(&mut self, slot: usize) {
        let mut buffer = [0; 16384];
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let read = if self.flags.log.is_some() {
            arrived(&connection.socket, &mut buffer)
        } else {
            connection
                .socket
                .read(&mut buffer)
                .map(|count| (count, now()))
        };
        match read {
            Ok((0, _)) => self.connections[slot] = None,
            Ok((count, at)) => {
                connection.input.extend_from_slice(&buffer[..count]);
                self.begin(slot, at);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.connections[slot] = None,
        }
    }

    /// Begins the answer to a request that is whole.
    fn begin(&mut self, slot: usize, at: u64) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let input = &connection.input;
        let Some(head) = find(input, b"\r\n\r\n") else {
            return;
        };
        let length = number_after(&input[..head], b"ontent-length: ")
            .or_else(|| number_after(&input[..head], b"ontent-Length: "));
        let end = head + 4 + usize::try_from(length.unwrap_or(0)).unwrap_or(0);
        if input.len() < end {
            return;
        }
        let body = &input[head + 4..end];
        let prompt = find(body, b"\"prompt\":\"").map_or(body, |at| &body[at + 10..]);
        let prompt_end = prompt.iter().position(|byte| *byte == b'"');
        let prompt = &prompt[..prompt_end.unwrap_or(0)];
        let words = prompt.split(|byte| *byte == b' ').count();
        let log = if self.flags.log.is_some() {
            vec![key(prompt), at]
        } else {
            Vec::new()
        };
        let mut wanted = number_after(body, b"\"max_tokens\":").unwrap_or(1).max(1);
        let mut due = at + self.flags.ttft_us * 1000;
        if self.flags.stagger && !connection.used {
            // by the golden ratio: even, and in no order
            let part = (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            wanted = 1 + ((wanted * part) >> 32);
            due += (((part << 8) & 0xFFFF_FFFF) * self.flags.gap_us * 1000) >> 32;
        }
        connection.used = true;
        let answer = Answer {
            wanted,
            sent: 0,
            prompt_tokens: words as u64,
            due,
            log,
        };
        connection.input.drain(..end);
        if self.requests == 0 {
            self.first = at;
        }
        self.requests += 1;
        self.sequence += 1;
        self.due.push(Reverse((answer.due, self.sequence, slot)));
        connection.answer = Some(answer);
    }

    /// Writes what is due on a connection.
    fn write(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let Some(answer) = &mut connection.answer else {
            return;
        };
        let out = &mut connection.output;
        if out.is_empty() {
            if answer.sent == 0 {
                out.extend_from_slice(&self.bytes.head);
            }
            let most = match self.flags.per_write {
                0 => answer.wanted,
                some => some,
            };
            let count = most.min(answer.wanted - answer.sent);
            for _ in 0..count {
                answer.sent += 1;
                let whole = answer.sent == answer.wanted;
                out.extend_from_slice(if whole {
                    &self.bytes.last
                } else {
                    &self.bytes.token
                });
            }
            if answer.sent == answer.wanted {
                out.extend(Bytes::end(answer.prompt_tokens, answer.wanted));
            }
            let at = now();
            self.late = self.late.max(at.saturating_sub(answer.due));
            if self.flags.log.is_some() {
                answer.log.extend((0..count).map(|_| at));
            }
            self.tokens += count;
        }
        self.writes += 1;
        match connection.socket.write(out) {
            Ok(count) => drop(out.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.connections[slot] = None;
                return;
            }
        }
        if !out.is_empty() {
            // the client is behind: again in a millisecond
            answer.due = now() + 1_000_000;
        } else if answer.sent == answer.wanted {
            if self.flags.log.is_some() {
                self.logs.push(std::mem::take(&mut answer.log));
            }
            connection.answer = None;
            return;
        } else {
            answer.due = if self.flags.gap_us == 0 {
                now()
            } else {
                answer.due + self.flags.gap_us * 1000
            };
        }
        self.sequence += 1;
        self.due.push(Reverse((answer.due, self.sequence, slot)));
    }

    fn tell(&self) -> anyhow::Result<()> {
        let mut out = io::stdout();
        writeln!(
            out,
            "{} {} {} {} {}",
            self.first, self.requests, self.tokens, self.writes, self.late
        )?;
        let Some(path) = &self.flags.log else {
            return Ok(());
        };
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for log in &self.logs {
            let line: Vec<String> = log.iter().map(u64::to_string).collect();
            writeln!(file, "{}", line.join(" "))?;
        }
        file.flush()?;
        Ok(())
    }
}

/// Reads, and tells when that came to this machine: the kernel stamps it, so an engine that is late itself does not put
/// that on the client.
fn arrived(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, u64)> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let read = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::empty())?;
    let at = now();
    let stamp = read.cmsgs()?.find_map(|message| match message {
        // by the wall clock: its distance to the other is taken at the same moment
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    let wall = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let ago = stamp.map_or(0, |stamp| (wall - stamp).num_nanoseconds());
    Ok((read.bytes, at - u64::try_from(ago).unwrap_or(0)))
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

fn number_after(bytes: &[u8], what: &[u8]) -> Option<u64> {
    let rest = &bytes[find(bytes, what)? + what.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |sum: Option<u64>, digit| {
        Some(sum.unwrap_or(0) * 10 + u64::from(digit - b'0'))
    })
}
