//! A connection between a member and its leader: greeting, and messages each way.
//!
//! The registry tells where the leader listens, as it does of every role, and holds the key by which both prove
//! themselves: nodes are shared, and a stranger on the port of a leader that is gone must neither learn the key nor give
//! orders. From then on it is TCP and not files, which a shared file system may show a minute late: a task that dies is
//! known at once, and clocks can be compared. A message is its length (four bytes, big-endian) and JSON.
//!
//! What can fail: the connection, also by silence, for a node that loses power closes nothing; the greeting.

use std::{io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::message::{Challenge, Hello, Welcome};

/// Whoever says nothing for this long is gone. Both sides speak every [`BEAT`].
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// A member speaks this often, and is answered.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// A greeting takes no longer than this.
const GREETING: Duration = Duration::from_secs(10);
/// No greeting is longer, whoever sends it.
const SHORT: u32 = 16 << 10;
/// No message is longer.
const LONG: u32 = 256 << 20;

/// The half that is read.
#[derive(Debug)]
pub(super) struct Reading(OwnedReadHalf);

/// The half that is written.
#[derive(Debug)]
pub(super) struct Writing(OwnedWriteHalf);

/// Messages of a connection.
fn halves(stream: TcpStream) -> io::Result<(Reading, Writing)> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Reading(read), Writing(write)))
}

impl Reading {
    /// The next message; an error also where nothing was said for too long.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        timeout(SILENCE, self.take(LONG)).await.map_err(|_| {
            let text = format!("it said nothing for {} s", SILENCE.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, text)
        })?
    }

    async fn take<T: DeserializeOwned>(&mut self, most: u32) -> io::Result<T> {
        let length = self.0.read_u32().await.map_err(closed)?;
        if length > most {
            let text = format!("a message of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut text = vec![0; length as usize];
        self.0.read_exact(&mut text).await.map_err(closed)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

fn closed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            io::Error::new(error.kind(), "its connection was closed")
        }
        _ => error,
    }
}

impl Writing {
    /// Sends a message.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, message)?;
        let length = u32::try_from(bytes.len() - 4).ok().filter(|it| *it <= LONG);
        let length = length.ok_or_else(|| io::Error::other("a message that is too long"))?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        // who does not take it for so long has said nothing for so long, either
        timeout(SILENCE, self.0.write_all(&bytes))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Proves that one has the key, without telling it.
fn proof(key: &str, nonce: &str, who: &str) -> String {
    let mut hash = Sha256::new();
    for part in [key, nonce, who, env!("CARGO_PKG_VERSION")] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    crate::load::workload::hex(&hash.finalize())
}

fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn refused(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text.into())
}

fn same_program(version: &str) -> io::Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    if version == own {
        return Ok(());
    }
    Err(refused(format!(
        "it is aif {version}, and this is {own}: the tasks of one load must be the same program"
    )))
}

/// The leader's side of a greeting: who it is. Members are `1..tasks`.
pub(super) async fn receive(
    stream: TcpStream,
    key: &str,
    tasks: u32,
    welcome: &Welcome,
) -> io::Result<(Hello, Reading, Writing)> {
    let (mut reading, mut writing) = halves(stream)?;
    let nonce = nonce();
    let greet = async {
        let challenge = Challenge {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nonce: nonce.clone(),
        };
        writing.send(&challenge).await?;
        let hello: Hello = reading.take(SHORT).await?;
        if hello.proof != proof(key, &nonce, &hello.task.to_string())
            || !(1..tasks).contains(&hello.task)
        {
            return Err(refused("it is no member of this load"));
        }
        let welcome = Welcome {
            proof: proof(key, &hello.nonce, "leader"),
            ..welcome.clone()
        };
        writing.send(&welcome).await?;
        Ok(hello)
    };
    let hello = timeout(GREETING, greet).await??;
    Ok((hello, reading, writing))
}

/// The member's side.
pub(super) async fn join(
    stream: TcpStream,
    key: &str,
    task: u32,
    node: &str,
) -> io::Result<(Welcome, Reading, Writing)> {
    let (mut reading, mut writing) = halves(stream)?;
    let greet = async {
        let challenge: Challenge = reading.take(SHORT).await?;
        same_program(&challenge.version)?;
        let hello = Hello {
            task,
            node: node.to_owned(),
            proof: proof(key, &challenge.nonce, &task.to_string()),
            nonce: nonce(),
        };
        writing.send(&hello).await?;
        let welcome: Welcome = reading.take(SHORT).await?;
        if welcome.proof != proof(key, &hello.nonce, "leader") {
            return Err(refused("it is not the leader of this load"));
        }
        Ok(welcome)
    };
    let welcome = timeout(GREETING, greet).await??;
    Ok((welcome, reading, writing))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn welcome() -> Welcome {
        Welcome {
            proof: String::new(),
            run: "r".to_owned(),
            run_path: "/r".into(),
            folder: "/r/bench".into(),
        }
    }

    /// Greets over a real connection: by these keys, and as this task of three.
    async fn greet(
        leaders: &str,
        members: &str,
        task: u32,
    ) -> (io::Result<String>, io::Result<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let leader = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (hello, _, mut writing) = receive(stream, leaders, 3, &welcome()).await?;
            writing.send(&"a word").await?;
            Ok(hello.node)
        };
        let member = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let (welcome, mut reading, _) = join(stream, members, task, "node2").await?;
            assert_eq!(welcome.run, "r");
            reading.next::<String>().await
        };
        tokio::join!(leader, member)
    }

    #[tokio::test]
    async fn who_has_the_key_is_let_in() {
        let (leader, member) = greet("key", "key", 2).await;
        assert_eq!(leader.unwrap(), "node2");
        assert_eq!(member.unwrap(), "a word");
    }

    #[tokio::test]
    async fn strangers_are_sent_away_and_learn_nothing() {
        for (leaders, members, task) in [("key", "other", 1), ("key", "key", 3), ("key", "key", 0)]
        {
            let (leader, member) = greet(leaders, members, task).await;
            let error = leader.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(member.is_err());
        }
    }

    #[tokio::test]
    async fn a_member_takes_no_orders_of_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = async {
            let (mut reading, mut writing) = halves(listener.accept().await.unwrap().0).unwrap();
            let challenge = Challenge {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                nonce: "n".to_owned(),
            };
            writing.send(&challenge).await.unwrap();
            let hello: Hello = reading.take(SHORT).await.unwrap();
            assert!(!format!("{hello:?}").contains("key-of-ours"));
            writing.send(&welcome()).await.unwrap();
        };
        let member = async {
            let stream = TcpStream::connect(address).await.unwrap();
            join(stream, "key-of-ours", 1, "node2").await
        };
        let ((), member) = tokio::join!(stranger, member);
        assert_eq!(
            member.unwrap_err().to_string(),
            "it is not the leader of this load"
        );
    }

    #[tokio::test]
    async fn an_end_is_known_as_such_and_so_is_a_message_beyond_all_measure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut reading, _writing) = halves(near.unwrap()).unwrap();
        let mut far = far.unwrap().0;
        far.write_all(&[0xff; 4]).await.unwrap();
        let error = reading.next::<String>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(far);
        let error = reading.next::<String>().await.unwrap_err();
        assert_eq!(error.to_string(), "its connection was closed");
    }
}
