//! The word that names a host: `host`, `login@host` or `ssh://login@host:port`.

use super::NoCall;
use crate::word::Word;

/// A destination in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// As it was typed.
    pub word: Word,
    /// The login in it.
    pub login: Option<Vec<u8>>,
    /// The host; ssh's configuration may give it another name.
    pub host: Vec<u8>,
    /// The port in a URL: a number or the name of a service.
    pub port: Option<Vec<u8>>,
}

impl Destination {
    pub(super) fn parse(word: &Word) -> Result<Self, NoCall> {
        let bytes = word.as_bytes();
        if let Some(rest) = bytes.strip_prefix(b"ssh://") {
            return Self::parse_url(word, rest).ok_or(NoCall::BadDestination);
        }
        let (login, host) = match bytes.iter().rposition(|byte| *byte == b'@') {
            Some(0) => return Err(NoCall::BadDestination),
            Some(at) => (Some(bytes[..at].to_vec()), &bytes[at + 1..]),
            None => (None, bytes),
        };
        Ok(Self { word: word.clone(), login, host: host.to_vec(), port: None })
    }

    /// `parse_uri` in misc.c, which knows no path for ssh.
    fn parse_url(word: &Word, rest: &[u8]) -> Option<Self> {
        let (login, rest) = match rest.iter().position(|byte| *byte == b'@') {
            Some(at) => {
                // What follows a semicolon are parameters that ssh ignores.
                let login = rest[..at].split(|byte| *byte == b';').next().unwrap_or_default();
                (Some(Some(percent_decode(login)?).filter(|login| !login.is_empty())?), &rest[at + 1..])
            }
            None => (None, rest),
        };
        // In brackets there could be an address, but `is_domain` holds there too.
        let end = match rest.first() {
            Some(b'[') => 1 + rest.iter().position(|byte| *byte == b']')?,
            _ => rest.iter().position(|byte| b":/".contains(byte)).unwrap_or(rest.len()),
        };
        let (host, behind) = rest.split_at(end);
        let host = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let (port, path) = match behind {
            [b':', rest @ ..] => match rest.iter().position(|byte| *byte == b'/') {
                Some(slash) => (Some(&rest[..slash]), &rest[slash + 1..]),
                None => (Some(rest), &[][..]),
            },
            [b'/', rest @ ..] => (None, rest),
            [] => (None, &[][..]),
            _ => return None,
        };
        if !is_domain(host) || !path.is_empty() {
            return None;
        }
        // `host:` has no port, and `host:/` one of no length, which is none.
        let port = match port {
            Some([]) if behind.len() > 1 => return None,
            port => port.filter(|port| !port.is_empty()).map(<[u8]>::to_vec),
        };
        let host = host.strip_suffix(b".").unwrap_or(host);
        Some(Self { word: word.clone(), login, host: host.to_vec(), port })
    }
}

/// `%41` and `+` for a blank, as in a URL's login.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::new();
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => Some(digit(rest.next()?)? << 4 | digit(rest.next()?)?).filter(|byte| *byte != 0)?,
            other => *other,
        });
    }
    Some(decoded)
}

/// `valid_domain` in misc.c.
fn is_domain(name: &[u8]) -> bool {
    name.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte))
        && !name.windows(2).any(|two| two == b"..")
}

/// `ssh_valid_hostname` in readconf.c.
pub(super) fn is_host(name: &[u8]) -> bool {
    let refused =
        |byte: &u8| b"'`\"$\\;&<>|(){},".contains(byte) || is_space(*byte) || byte.is_ascii_control();
    !name.starts_with(b"-") && !name.iter().any(refused)
}

/// `ssh_valid_ruser` in readconf.c.
pub(super) fn is_login(name: &[u8]) -> bool {
    let refused = |byte: &u8| byte.is_ascii_control() || b"'`\";&<>|(){}".contains(byte);
    !name.starts_with(b"-")
        && !name.ends_with(b"\\")
        && !name.iter().any(refused)
        && !name.windows(2).any(|two| is_space(two[0]) && two[1] == b'-')
}

fn is_space(byte: u8) -> bool {
    b" \t\n\x0b\x0c\r".contains(&byte)
}
