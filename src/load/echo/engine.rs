//! The loop of the echo engine: what is due is written, what came is read, and in between it sleeps.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{fd::AsFd as _, fd::AsRawFd as _, unix::net::UnixStream},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        time::TimeSpec,
        timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use super::{
    Log, Setup, is_closed,
    says::{self, Api, Parts, Unheard},
};
use crate::{
    clock::monotonic_nanoseconds as now,
    load::receive::{self, Control, Received},
    stats::certificate::Stamps,
};

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
const TOLD: u64 = u64::MAX - 2;

/// Tokens that are written before the sockets are looked at again: requests do not wait for all streams.
const AT_ONCE: usize = 64;
/// Again after this long, where the client did not take all.
const AGAIN: u64 = 1_000_000;
/// Most bytes of a request.
const REQUEST: usize = 64 << 20;

/// A request being answered.
struct Answer {
    api: Api,
    stream: bool,
    wanted: u64,
    sent: u64,
    prompt_tokens: u64,
    due: u64,
    done: Option<Stamps>,
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

pub(super) struct Engine<'a> {
    setup: Setup,
    completions: Parts,
    chat: Parts,
    epoll: Epoll,
    timer: TimerFd,
    listener: TcpListener,
    told: &'a UnixStream,
    connections: Vec<Option<Connection>>,
    /// Places of connections that have ended.
    free: Vec<usize>,
    /// Time, number, place.
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sequence: u64,
    room: usize,
    control: Control,
    log: Log,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        listener: TcpListener,
        told: &'a UnixStream,
        setup: Setup,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(nix::sys::timerfd::ClockId::CLOCK_MONOTONIC, flags)?;
        let input = EpollFlags::EPOLLIN;
        epoll.add(&listener, EpollEvent::new(input, LISTENER))?;
        epoll.add(&timer, EpollEvent::new(input, TIMER))?;
        epoll.add(told, EpollEvent::new(input, TOLD))?;
        Ok(Self {
            room: setup.room,
            setup,
            completions: Parts::completions(),
            chat: Parts::chat(),
            epoll,
            timer,
            listener,
            told,
            connections: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            sequence: 0,
            control: Control::new(),
            log: Log::default(),
        })
    }

    /// What was done, with what was begun.
    pub(super) fn into_log(mut self) -> Log {
        for slot in 0..self.connections.len() {
            self.close(slot);
        }
        self.log
    }

    pub(super) fn serve(&mut self) -> io::Result<()> {
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
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            for event in &events[..count] {
                match event.data() {
                    TOLD if is_closed(self.told) => return Ok(()),
                    TOLD => {}
                    TIMER => {
                        // read, else it is told again and again
                        let _ = self.timer.wait();
                        armed = 0;
                    }
                    LISTENER => self.accept()?,
                    slot => self.read(usize::try_from(slot).unwrap_or(usize::MAX)),
                }
            }
            for _ in 0..AT_ONCE {
                match self.due.peek() {
                    Some(Reverse((due, ..))) if *due <= now() => {}
                    _ => break,
                }
                if let Some(Reverse((due, _, slot))) = self.due.pop() {
                    self.write(slot, due);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            if self.setup.tag.is_some() {
                receive::ask_for_stamps(&socket)?;
            }
            let slot = self.free.pop().unwrap_or(self.connections.len());
            if slot == self.connections.len() {
                self.connections.push(None);
            }
            let event = EpollEvent::new(EpollFlags::EPOLLIN, slot as u64);
            self.epoll.add(socket.as_fd(), event)?;
            self.connections[slot] = Some(Connection {
                socket,
                input: Vec::new(),
                output: Vec::new(),
                answer: None,
                used: false,
            });
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) {
        let Some(connection) = self.connections[slot].take() else {
            return;
        };
        self.free.push(slot);
        // what was written of it, was
        self.log
            .requests
            .extend(connection.answer.and_then(|answer| answer.done));
    }

    fn read(&mut self, slot: usize) {
        let mut buffer = [0; 16384];
        let Some(Some(connection)) = self.connections.get_mut(slot) else {
            return;
        };
        let read = if self.setup.tag.is_some() {
            arrived(&connection.socket, &mut buffer, &mut self.control)
        } else {
            let read = connection.socket.read(&mut buffer);
            read.map(|count| (count, now()))
        };
        match read {
            Ok((0, _)) => self.close(slot),
            Ok((count, at)) if connection.input.len() < REQUEST => {
                connection.input.extend_from_slice(&buffer[..count]);
                self.begin(slot, at);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.close(slot),
        }
    }

    /// Begins the answer to a request that is whole.
    fn begin(&mut self, slot: usize, at: u64) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let asked = match says::hear(&connection.input, self.setup.key.as_deref()) {
            Ok(asked) if connection.answer.is_none() => asked,
            Err(Unheard::Part) => return,
            Ok(_) | Err(Unheard::Bad) => return self.refuse(slot, "400 Bad Request"),
        };
        if !asked.may {
            return self.refuse(slot, "401 Unauthorized");
        }
        let body = &connection.input[asked.body..asked.length];
        let speed = &self.setup.speed;
        let mut wanted = share(asked.tokens, speed.share);
        let mut due = at + nanoseconds(speed.first);
        if speed.stagger && !connection.used {
            // by the golden ratio: even, and in no order
            let part = (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            wanted = 1 + ((wanted * part) >> 32);
            due += (((part << 8) & 0xFFFF_FFFF) * nanoseconds(speed.gap)) >> 32;
        }
        let room = usize::try_from(wanted).unwrap_or(usize::MAX);
        let tag = self.setup.tag.filter(|_| self.room >= room);
        let done = tag.and_then(|tag| tag(body)).map(|tag| {
            self.room -= room;
            let mut at_all = Vec::with_capacity(room.saturating_add(1));
            at_all.push(at);
            Stamps { tag, at: at_all }
        });
        connection.answer = Some(Answer {
            api: asked.api,
            stream: asked.stream,
            wanted,
            sent: 0,
            prompt_tokens: words(body),
            due,
            done,
        });
        connection.used = true;
        connection.input.drain(..asked.length);
        if self.log.came == 0 {
            self.log.first = at;
        }
        self.log.came += 1;
        self.later(due, slot);
    }

    fn later(&mut self, due: u64, slot: usize) {
        self.sequence += 1;
        self.due.push(Reverse((due, self.sequence, slot)));
    }

    fn refuse(&mut self, slot: usize, status: &str) {
        if let Some(connection) = &mut self.connections[slot] {
            let _ = connection.socket.write(&says::refusal(status));
        }
        self.close(slot);
    }

    /// Writes what is due on a connection.
    fn write(&mut self, slot: usize, due: u64) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        // another connection may have its place by now
        let Some(answer) = connection
            .answer
            .as_mut()
            .filter(|answer| answer.due == due)
        else {
            return;
        };
        let out = &mut connection.output;
        if out.is_empty() {
            let count = match self.setup.speed.per_write {
                _ if !answer.stream => answer.wanted,
                0 => answer.wanted,
                some => some.min(answer.wanted - answer.sent),
            };
            if answer.stream {
                let parts = match answer.api {
                    Api::Chat => &self.chat,
                    Api::Completions | Api::Embeddings => &self.completions,
                };
                fill(out, parts, answer, count);
            } else {
                *out = says::whole(answer.api, answer.prompt_tokens, answer.wanted);
            }
            answer.sent += count;
            let at = now();
            self.log.late = self.log.late.max(at.saturating_sub(answer.due));
            if let Some(done) = &mut answer.done {
                let stamps = if answer.stream { count } else { 1 };
                done.at.extend((0..stamps).map(|_| at));
            }
            self.log.tokens += count;
        }
        self.log.writes += 1;
        match connection.socket.write(out) {
            Ok(count) => drop(out.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return self.close(slot),
        }
        if !out.is_empty() {
            // the client is behind
            answer.due = now() + AGAIN;
        } else if answer.sent == answer.wanted {
            let ended = connection.answer.take();
            self.log
                .requests
                .extend(ended.and_then(|answer| answer.done));
            return;
        } else if self.setup.speed.gap.is_zero() {
            answer.due = now();
        } else {
            answer.due += nanoseconds(self.setup.speed.gap);
        }
        let due = answer.due;
        self.later(due, slot);
    }
}

/// The next tokens of a stream, with what stands before the first and behind the last.
fn fill(out: &mut Vec<u8>, parts: &Parts, answer: &Answer, count: u64) {
    if answer.sent == 0 {
        out.extend_from_slice(&parts.head);
    }
    let ends = answer.sent + count == answer.wanted;
    for number in 1..=count {
        let last = ends && number == count;
        out.extend_from_slice(if last { &parts.last } else { &parts.token });
    }
    if ends {
        out.extend(says::end(answer.prompt_tokens, answer.wanted));
    }
}

/// A word is a token. What frames the prompt has no spaces.
fn words(body: &[u8]) -> u64 {
    memchr::memchr_iter(b' ', body).count() as u64 + 1
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of tokens"
)]
fn share(tokens: u64, share: f64) -> u64 {
    ((tokens as f64 * share).round() as u64).clamp(1, tokens)
}

/// Reads, and tells when that came to this machine.
fn arrived(
    socket: &TcpStream,
    buffer: &mut [u8],
    control: &mut Control,
) -> io::Result<(usize, u64)> {
    let Received { count, lay } = receive::read(socket.as_raw_fd(), buffer, control)?;
    Ok((
        count,
        now().saturating_sub(nanoseconds(lay.unwrap_or_default())),
    ))
}
