//! The words of the lab's tunnel, by which nodes behind a NAT are reached.
//!
//! It is a protocol of the lab's own and not Teleport's reverse tunnel, which
//! clients never see. Nodes only ever dial out, to the proxy's tunnel address:
//!
//! - one *control* connection a node begins with `node TOKEN UUID HOSTNAME` and
//!   is answered `welcome` or `refused REASON`; on it the proxy asks `dial ID`,
//!   the node reports `failed ID REASON`, and each `ping` is answered `pong`;
//! - one connection for each *stream* begins with `stream TOKEN ID`; what
//!   follows is the stream, raw, both ways, half-close included.
//!
//! Every message is one line of words. No I/O but [`read_line`].

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line either side may send, in bytes.
const LONGEST: usize = 1024;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeName {
    /// The name users type; two nodes may carry the same one.
    pub hostname: String,
    /// The node's id, its own for life.
    pub uuid: String,
}

/// The first line of a connection to the tunnel address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The control connection of a node.
    Node {
        /// The lab's secret.
        token: String,
        /// Who dials.
        name: NodeName,
    },
    /// The stream that the proxy asked for.
    Stream {
        /// The lab's secret.
        token: String,
        /// The number from [`FromProxy::Dial`].
        id: u64,
    },
}

/// What the proxy says on a control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProxy {
    /// The node is registered.
    Welcome,
    /// It is not, and why.
    Refused(String),
    /// Open a stream to the node's SSH server and bring it here.
    Dial(u64),
    /// The answer to a ping.
    Pong,
}

/// What the node says on its control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNode {
    /// The stream could not be opened, and why.
    Failed(u64, String),
    /// Asks for a sign of life.
    Ping,
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { token, name } => {
                write!(f, "node {token} {} {}", name.uuid, name.hostname)
            }
            Self::Stream { token, id } => write!(f, "stream {token} {id}"),
        }
    }
}

impl fmt::Display for FromProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome => f.write_str("welcome"),
            Self::Refused(reason) => write!(f, "refused {reason}"),
            Self::Dial(id) => write!(f, "dial {id}"),
            Self::Pong => f.write_str("pong"),
        }
    }
}

impl fmt::Display for FromNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(id, reason) => write!(f, "failed {id} {reason}"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

impl Hello {
    /// Reads the line of a peer that is not trusted yet.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let token = words.next()?.to_owned();
        let hello = match kind {
            "node" => {
                let uuid = words.next()?.to_owned();
                let hostname = words.next().filter(|name| !name.is_empty())?.to_owned();
                Self::Node { token, name: NodeName { hostname, uuid } }
            }
            "stream" => Self::Stream { token, id: words.next()?.parse().ok()? },
            _ => return None,
        };
        words.next().is_none().then_some(hello)
    }
}

impl FromProxy {
    /// Reads a line from the proxy.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "welcome" => Some(Self::Welcome),
            "refused" => Some(Self::Refused(rest.to_owned())),
            "dial" => Some(Self::Dial(rest.parse().ok()?)),
            "pong" => Some(Self::Pong),
            _ => None,
        }
    }
}

impl FromNode {
    /// Reads a line from a node.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ping" => Some(Self::Ping),
            "failed" => {
                let (id, reason) = rest.split_once(' ')?;
                Some(Self::Failed(id.parse().ok()?, reason.to_owned()))
            }
            _ => None,
        }
    }
}

/// Reads one line, byte by byte: nothing after it may be swallowed, because a
/// stream begins there.
///
/// # Errors
/// At the end of the connection, past the longest line, or when it is not text.
pub async fn read_line<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match from.read_u8().await? {
            b'\n' => break,
            _ if line.len() == LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        let name = NodeName { hostname: "worker".into(), uuid: "u-1".into() };
        let token = "secret".to_owned();
        for hello in [Hello::Node { token: token.clone(), name }, Hello::Stream { token, id: 7 }] {
            assert_eq!(Hello::parse(&hello.to_string()), Some(hello));
        }
        for said in [
            FromProxy::Welcome,
            FromProxy::Refused("no such token".into()),
            FromProxy::Dial(9),
            FromProxy::Pong,
        ] {
            assert_eq!(FromProxy::parse(&said.to_string()), Some(said));
        }
        for said in [FromNode::Ping, FromNode::Failed(3, "connection refused".into())] {
            assert_eq!(FromNode::parse(&said.to_string()), Some(said));
        }
    }

    #[test]
    fn what_is_no_hello_is_refused() {
        for line in ["", "node", "node t u", "node t u ", "stream t x", "stream t 1 2", "GET / HTTP/1.1"] {
            assert_eq!(Hello::parse(line), None, "{line:?}");
        }
    }

    #[tokio::test]
    async fn a_line_takes_nothing_of_the_stream_behind_it() {
        let mut bytes: &[u8] = b"stream t 1\nSSH-2.0-x\r\n";
        assert_eq!(read_line(&mut bytes).await.unwrap(), "stream t 1");
        assert_eq!(bytes, b"SSH-2.0-x\r\n");
    }

    #[tokio::test]
    async fn an_endless_line_is_an_error() {
        let mut bytes: &[u8] = &[b'x'; 5000];
        assert!(read_line(&mut bytes).await.is_err());
    }
}
