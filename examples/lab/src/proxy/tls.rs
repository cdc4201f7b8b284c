//! The web listener of a proxy with TLS routing: which protocol a client is led to.
//!
//! The client's list decides, in the client's order; the first that is known wins. The
//! SSH listener shows the host certificate and selects no protocol; the web pages show
//! a certificate of their own (lib/srv/alpnproxy/proxy.go, `getHandleDescBasedOnALPNVal`, 14).

use std::io;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use super::listen::FIRST_WORD;
use crate::ca::Authority;

/// Who the listener is.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    ssh: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
}

/// Where a client is led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ssh,
    Web,
}

impl Routing {
    /// A proxy of this cluster.
    pub(crate) fn new(authority: &Authority, uuid: &str, public_names: &[&str]) -> Result<Self> {
        let ssh = authority.tls().host_config(authority.cluster(), uuid, public_names)?;
        Ok(Self { ssh: Arc::new(ssh), web: Arc::new(crate::ca::tls::web_config()?) })
    }

    /// Shakes hands with a client; none of one that was led elsewhere, and served there.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let accepting = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = tokio::time::timeout(FIRST_WORD, accepting).await.map_err(late)??;
        let asked: Vec<Vec<u8>> =
            hello.client_hello().alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        let Some(way) = way(&asked) else {
            // The real one hangs up without a word.
            tracing::warn!(?asked, "failed to find ALPN handler");
            return Ok(None);
        };
        let config = match way {
            Way::Ssh => self.ssh.clone(),
            Way::Web => self.web.clone(),
        };
        let mut stream =
            tokio::time::timeout(FIRST_WORD, hello.into_stream(config)).await.map_err(late)??;
        if way == Way::Ssh {
            return Ok(Some(stream));
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
        stream.shutdown().await?;
        Ok(None)
    }
}

fn way(asked: &[Vec<u8>]) -> Option<Way> {
    if asked.is_empty() {
        return Some(Way::Web);
    }
    asked.iter().find_map(|protocol| match protocol.as_slice() {
        b"teleport-proxy-ssh" => Some(Way::Ssh),
        b"http/1.1" | b"h2" | b"acme-tls/1" => Some(Way::Web),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_that_is_known_wins() {
        let asked =
            |list: &[&str]| way(&list.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(asked(&[]), Some(Way::Web));
        assert_eq!(asked(&["teleport-proxy-ssh"]), Some(Way::Ssh));
        assert_eq!(asked(&["h2", "teleport-proxy-ssh"]), Some(Way::Web));
        assert_eq!(asked(&["unheard-of", "teleport-proxy-ssh", "h2"]), Some(Way::Ssh));
        assert_eq!(asked(&["unheard-of"]), None);
    }
}
