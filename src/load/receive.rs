//! Reading from a connection, with the kernel's word on when the bytes came.
//!
//! A stamp taken when an event loop got round to reading is late by whatever else the loop did first, and by what the
//! machine did instead of running it. The kernel notes when it took a packet from the network (`SO_TIMESTAMPNS`, which
//! works for TCP since Linux 4.13), and tells with the bytes; of several packets in one read it tells of the last. That is
//! by the wall clock, so only its distance to the same clock, read right behind it, is used: a clock that is set in between
//! makes stamps wrong by no more than the gap to the ones before and now, for whoever stamps keeps their order.
//!
//! Bytes that were encrypted are stamped when they are read: what the kernel knows of is not what is read then. The same
//! holds for a system that tells nothing.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, AsRawFd as _, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::sys::{
    socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
    time::TimeSpec,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{clock, tls};

/// Bytes that one read takes at the most.
const READ: usize = 16 << 10;

thread_local! {
    /// One for all connections of an event loop: what was read is done with before the next read.
    static SPACE: RefCell<Space> = RefCell::new(Space::new());
}

/// Where a read puts what it gets.
#[derive(Debug)]
pub struct Space {
    bytes: Box<[u8]>,
    control: Control,
}

impl Space {
    fn new() -> Self {
        Self {
            bytes: vec![0; READ].into_boxed_slice(),
            control: Control::new(),
        }
    }
}

/// Room for what the kernel tells beside the bytes.
#[derive(Debug)]
pub(super) struct Control(Vec<u8>);

impl Control {
    pub(super) fn new() -> Self {
        Self(nix::cmsg_space!(TimeSpec))
    }
}

/// What a read got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes; 0 at the end of the stream.
    pub count: usize,
    /// How long the last of them had been on this machine; `None` where nobody tells.
    pub lay: Option<Duration>,
}

/// A byte stream that may know when its bytes came.
pub trait Receive: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Reads what is there.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        space: &mut Space,
    ) -> Poll<io::Result<Received>> {
        poll_unstamped(self, context, space)
    }
}

impl Receive for tls::Stream {
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        space: &mut Space,
    ) -> Poll<io::Result<Received>> {
        match tls::socket(self) {
            Some(socket) => poll_stamped(socket, context, space),
            None => poll_unstamped(self, context, space),
        }
    }
}

#[cfg(test)]
impl Receive for tokio::io::DuplexStream {}

/// Reads what is there, and gives it to whoever asked.
pub(super) fn poll<S: Receive, T>(
    stream: &mut S,
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8], Option<Duration>) -> T,
) -> Poll<io::Result<T>> {
    SPACE.with_borrow_mut(|space| {
        let Received { count, lay } = ready!(stream.poll_receive(context, space))?;
        Poll::Ready(Ok(take(&space.bytes[..count], lay)))
    })
}

fn poll_unstamped<S: AsyncRead + Unpin + ?Sized>(
    mut stream: &mut S,
    context: &mut Context<'_>,
    space: &mut Space,
) -> Poll<io::Result<Received>> {
    let mut buffer = ReadBuf::new(&mut space.bytes);
    ready!(Pin::new(&mut stream).poll_read(context, &mut buffer))?;
    let count = buffer.filled().len();
    Poll::Ready(Ok(Received { count, lay: None }))
}

fn poll_stamped(
    socket: &TcpStream,
    context: &mut Context<'_>,
    space: &mut Space,
) -> Poll<io::Result<Received>> {
    loop {
        ready!(socket.poll_read_ready(context))?;
        let mut received = None;
        let tried = socket.try_io(Interest::READABLE, || {
            let got = read(socket.as_raw_fd(), &mut space.bytes, &mut space.control)?;
            received = Some(got);
            // less than there was room for: the socket is empty, and to ask it would cost another call
            if (1..READ).contains(&got.count) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        if let Some(received) = received {
            return Poll::Ready(Ok(received));
        }
        match tried {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            _ => {}
        }
    }
}

/// Has the kernel tell when bytes came.
///
/// # Errors
/// It cannot.
pub(super) fn ask_for_stamps(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, ReceiveTimestampns, &true)?)
}

/// Reads, and tells how long that had been there.
pub(super) fn read(fd: RawFd, bytes: &mut [u8], control: &mut Control) -> io::Result<Received> {
    let mut parts = [io::IoSliceMut::new(bytes)];
    let read = recvmsg::<()>(fd, &mut parts, Some(&mut control.0), MsgFlags::empty())?;
    let stamp = read.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    Ok(Received {
        count: read.bytes,
        lay: stamp.map(clock::since_wall),
    })
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write as _, net::TcpListener};

    use super::*;

    const LATE: Duration = Duration::from_millis(60);

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let ours = TcpStream::connect(address).await.expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        (ours, theirs)
    }

    async fn next(stream: &mut TcpStream) -> (Vec<u8>, Option<Duration>) {
        poll_fn(|context| {
            let socket: &TcpStream = stream;
            SPACE.with_borrow_mut(|space| {
                let got = ready!(poll_stamped(socket, context, space)).expect("read");
                Poll::Ready((space.bytes[..got.count].to_vec(), got.lay))
            })
        })
        .await
    }

    /// The kernel begins to stamp a moment after the first socket of a machine wants it.
    async fn stamped() -> (TcpStream, std::net::TcpStream) {
        let (mut ours, mut theirs) = pair().await;
        ask_for_stamps(&ours).expect("stamps");
        for _ in 0..500 {
            theirs.write_all(b"x").expect("written");
            if next(&mut ours).await.1.is_some() {
                return (ours, theirs);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the kernel stamps nothing");
    }

    #[tokio::test]
    async fn what_is_read_late_is_known_to_have_come_early() {
        let (mut ours, mut theirs) = stamped().await;
        theirs.write_all(b"early").expect("written");
        std::thread::sleep(LATE);
        let (bytes, lay) = next(&mut ours).await;
        assert_eq!(bytes, b"early");
        assert!(lay >= Some(LATE), "{lay:?}");
    }

    #[tokio::test]
    async fn of_several_packets_the_last_counts() {
        let (mut ours, mut theirs) = stamped().await;
        theirs.write_all(b"first ").expect("written");
        std::thread::sleep(LATE);
        let before = tokio::time::Instant::now();
        theirs.write_all(b"second").expect("written");
        let (bytes, lay) = next(&mut ours).await;
        assert_eq!(bytes, b"first second");
        assert!(lay.expect("stamped") <= before.elapsed(), "{lay:?}");
    }

    #[tokio::test]
    async fn a_socket_that_was_not_asked_for_stamps_is_read_all_the_same() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"bytes").expect("written");
        assert_eq!(next(&mut ours).await, (b"bytes".to_vec(), None));
    }

    #[tokio::test]
    async fn all_that_came_is_read_and_then_the_end() {
        let (mut ours, mut theirs) = stamped().await;
        let sent: Vec<u8> = (0..=250).cycle().take(3 * READ + 5).collect();
        let whole = sent.clone();
        let writer = std::thread::spawn(move || theirs.write_all(&whole).expect("written"));
        let mut came = Vec::new();
        loop {
            let (bytes, _) = next(&mut ours).await;
            if bytes.is_empty() {
                break;
            }
            came.extend(bytes);
        }
        writer.join().expect("written");
        assert!(came == sent, "{} bytes of {}", came.len(), sent.len());
    }
}
