//! A client that only sends and reads: what the kernel costs, without a measurement.
//!
//! One epoll loop, prepared requests, one buffer, no parsing: an answer is over when a read ends like one.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    process::ExitCode,
};

use clap::Args;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::now;

/// What is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Port of the engine.
    #[arg(long)]
    port: u16,
    /// Requests at once.
    #[arg(long)]
    users: usize,
    /// Tokens of an answer.
    #[arg(long)]
    tokens: u64,
    /// How long.
    #[arg(long)]
    seconds: u64,
}

/// Asks until the time is over.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let prompt = vec!["word"; 16].join(" ");
    let tokens = flags.tokens;
    let body = format!(
        r#"{{"model":"m","prompt":"{prompt}","max_tokens":{tokens},"stream":true,"stream_options":{{"include_usage":true}}}}"#
    );
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut sockets = Vec::new();
    for slot in 0..flags.users {
        let mut socket = TcpStream::connect(("127.0.0.1", flags.port))?;
        socket.set_nodelay(true)?;
        socket.write_all(request.as_bytes())?;
        socket.set_nonblocking(true)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(socket.as_fd(), EpollEvent::new(interest, slot as u64))?;
        sockets.push(socket);
    }
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 65536];
    let end = now() + flags.seconds * 1_000_000_000;
    let mut open = flags.users;
    while open > 0 {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let socket = &mut sockets[usize::try_from(event.data())?];
            let read = match socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?,
            };
            if read == 0 {
                anyhow::bail!("the engine has gone");
            }
            if buffer[..read].ends_with(b"0\r\n\r\n") {
                if now() < end {
                    socket.write_all(request.as_bytes())?;
                } else {
                    open -= 1;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
