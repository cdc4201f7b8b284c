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
            return Err(BadNodeAddr(format!(
                "the host name has {} characters; 255 is the limit",
                host.len()
            )));
        }
        // `@` and blanks would change the meaning of Teleport's subsystem name and of an HTTP line;
        // the rest is what an HTTP authority cannot hold. A name in another script has its `xn--` form.
        if let Some(bad) = host.chars().find(|c| !c.is_ascii_graphic() || "@[]/\\\"'%?#<>^`{|}".contains(*c))
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bad_part_is_named() {
        for (host, port, word) in [
            ("", "22", "empty"),
            ("a b", "22", "' '"),
            ("root@web", "22", "'@'"),
            ("web\r\nX:", "22", "'\\r'"),
            ("büro", "22", "'ü'"),
            ("web", "0", "port"),
            ("web", "65536", "port"),
            ("web", "", "port"),
        ] {
            let error = NodeAddr::new(host, port).unwrap_err().to_string();
            assert!(error.contains(word), "{error:?} lacks {word:?}");
        }
        assert!(NodeAddr::new(&"a".repeat(256), "22").is_err());
        assert!(NodeAddr::parse("web").unwrap_err().to_string().contains("no port"));
        assert!(NodeAddr::parse("fe80::1:22").unwrap_err().to_string().contains("square brackets"));
    }

    #[test]
    fn an_address_in_brackets_is_the_one_without() {
        assert_eq!(NodeAddr::new("[::1]", "22"), NodeAddr::new("::1", "22"));
        assert_eq!(NodeAddr::parse("[::1]:22").unwrap().to_string(), "[::1]:22");
        assert_eq!(NodeAddr::parse("Web-3:22").unwrap().to_string(), "Web-3:22");
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back_as_it_was(host in "\\PC{0,20}", port: u16) {
            if let Ok(node) = NodeAddr::new(&host, &port.to_string()) {
                prop_assert_eq!(NodeAddr::parse(&node.to_string()), Ok(node));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = NodeAddr::parse(&text);
        }
    }
}
