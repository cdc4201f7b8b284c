//! OpenSSH's known_hosts: which keys and authorities vouch for which host.
//!
//! Pure: text in, values out; who calls it has read the file. The format is
//! sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", and lookups follow OpenSSH's
//! hostfile.c. A line that makes no sense is a complaint and not an error: one
//! bad line must not hide the others.

mod names;
#[cfg(test)]
mod tests;

use ssh_key::PublicKey;
use ssh_key::public::KeyData;
use std::fmt;
use std::sync::Arc;

pub use names::HostNames;

/// How the lines of a file are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As OpenSSH reads them.
    OpenSsh,
    /// tsh's own file: up to Teleport 6 it wrote `<cluster> ssh-rsa AAAA…`, without
    /// a marker, and meant an authority for the cluster's name and all below it.
    Tsh,
}

/// What a line says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// The host has this key.
    Key,
    /// `@cert-authority`: the key signs certificates of these hosts.
    Authority,
    /// `@revoked`: neither a host nor an authority may show this key.
    Revoked,
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file, as the user would name it.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

/// One line that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What the line says about its key.
    pub marker: Marker,
    /// For which hosts.
    pub hosts: HostNames,
    /// The key.
    pub key: KeyData,
    /// Where it stands.
    pub origin: Origin,
}

/// One line that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where it stands.
    pub origin: Origin,
    /// One sentence, lower case.
    pub message: &'static str,
}

/// The lines of one file, or of several in the order in which they are searched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    lines: Vec<Line>,
    complaints: Vec<Complaint>,
}

impl KnownHosts {
    /// Reads the text of a file; `file` is its name, for messages.
    #[must_use]
    pub fn parse(text: &str, file: &str, dialect: Dialect) -> Self {
        let file: Arc<str> = file.into();
        let mut known = Self::default();
        for (n, line) in text.lines().enumerate() {
            let origin = Origin { file: file.clone(), line: n + 1 };
            match parse_line(line, dialect) {
                Ok(None) => {}
                Ok(Some((marker, hosts, key))) => known.lines.push(Line { marker, hosts, key, origin }),
                Err(message) => known.complaints.push(Complaint { origin, message }),
            }
        }
        known
    }

    /// Adds the lines of another file; they are searched after those already here.
    pub fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.complaints.extend(other.complaints);
    }

    /// Every line that makes sense.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Every line that does not.
    #[must_use]
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// Whether no line makes sense.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines written for a host: under its plain name on port 22, under `[host]:port` elsewhere.
    pub fn matching<'a>(&'a self, host: &str, port: u16) -> impl Iterator<Item = &'a Line> + use<'a> {
        let name = lookup_name(host, port);
        self.lines.iter().filter(move |line| line.hosts.matches(&name))
    }
}

/// The name under which a host is looked up, and with which `ssh-keygen -R` removes it.
#[must_use]
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// `file:line`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// `file:line: sentence`.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// One line; nothing for a comment and for what other versions left behind.
fn parse_line(line: &str, dialect: Dialect) -> Result<Option<(Marker, HostNames, KeyData)>, &'static str> {
    let line = line.trim_matches(BLANK);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (marker, rest) = match line.strip_prefix('@') {
        None => (None, line),
        Some(marked) => {
            let (word, rest) = split_word(marked);
            match word {
                "cert-authority" => (Some(Marker::Authority), rest),
                "revoked" => (Some(Marker::Revoked), rest),
                _ => return Err("the marker is neither @cert-authority nor @revoked"),
            }
        }
    };
    let (hosts, rest) = split_word(rest);
    let (algorithm, rest) = split_word(rest);
    let (base64, _comment) = split_word(rest);
    if base64.is_empty() {
        return Err("the line has no host, key type and key");
    }
    let mut hosts = HostNames::parse(hosts)?;
    let key =
        PublicKey::from_openssh(&format!("{algorithm} {base64}")).map_err(|_| "the key cannot be read")?;
    let marker = match (marker, dialect) {
        (Some(marker), _) => marker,
        (None, Dialect::OpenSsh) => Marker::Key,
        (None, Dialect::Tsh) => {
            hosts = hosts.and_all_below();
            Marker::Authority
        }
    };
    Ok(Some((marker, hosts, key.key_data().clone())))
}

/// What OpenSSH takes for a blank, and the carriage return of a file that came from elsewhere.
const BLANK: [char; 3] = [' ', '\t', '\r'];

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(BLANK).unwrap_or((text, ""));
    (word, rest.trim_start_matches(BLANK))
}
