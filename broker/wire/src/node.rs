//! A node's address as the user names it: `host:port`.

use std::fmt;

/// A host and a port; the host is kept as it was written, because case matters upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddr {
    /// A name or an IP literal without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// Why text is no node address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNodeAddr(String);

impl NodeAddr {
    /// Checks a host and a port given apart, as ssh hands them to a ProxyCommand (`%h %p`).
    ///
    /// # Errors
    /// One sentence that names the offending part.
    pub fn new(host: &str, port: &str) -> Result<Self, BadNodeAddr> {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(BadNodeAddr("the host name is empty".into()));
        }
        if host.len() > 255 {
            return Err(BadNodeAddr(format!("the host name has {} characters; 255 is the limit", host.len())));
        }
        // `@` and blanks would change the meaning of Teleport's subsystem name and of an HTTP line.
        if let Some(bad) = host.chars().find(|c| c.is_control() || c.is_whitespace() || "@[]/\\\"'%?#".contains(*c)) {
            return Err(BadNodeAddr(format!("the host name holds {bad:?}")));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self { host: host.into(), port }),
            _ => Err(BadNodeAddr(format!("port {port:?} is not a number from 1 to 65535"))),
        }
    }

    /// Reads `host:port` or `[v6]:port`.
    ///
    /// # Errors
    /// One sentence that names the offending part.
    pub fn parse(text: &str) -> Result<Self, BadNodeAddr> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(BadNodeAddr(format!("{text:?} has no port")));
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(BadNodeAddr(format!("{text:?}: write an IPv6 address in square brackets")));
        }
        Self::new(host, port)
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for BadNodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadNodeAddr {}
