//! The file as it was written: every table and key natssh knows, each with its line.
//!
//! Pure: text in, tables and complaints out. What a value means by itself is
//! settled here (a duration, an address, a pattern); what tables mean to each
//! other is `check`'s business.

mod upstream;

use super::complaint::Complaint;
pub use super::page::At;
use super::page::{Page, Section};
use crate::pattern::Pattern;
use natssh_wire::NodeAddr;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use toml::de::DeTable;

pub use upstream::{KindWord, PROXY_PORT, UpstreamTable};

/// A whole natssh.toml.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    /// The upstream of hosts that no route names.
    pub default: Option<At<String>>,
    /// `[upstream.NAME]`.
    pub upstreams: BTreeMap<String, UpstreamTable>,
    /// `[identity.NAME]`.
    pub identities: BTreeMap<String, IdentityTable>,
    /// `[[route]]`, in their order.
    pub routes: Vec<RouteTable>,
    /// `[metrics]`.
    pub metrics: Option<MetricsTable>,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsTable {
    /// The loopback address to serve them on.
    pub listen: Option<At<SocketAddr>>,
}

/// One `[identity.NAME]`: exactly one of the five sources, which `check` sees to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityTable {
    /// Where the table begins.
    pub line: usize,
    /// A tsh profile by name; none for the current one.
    pub tsh: Option<At<Option<String>>>,
    /// The folder of tsh, with `tsh`.
    pub home: Option<At<String>>,
    /// An identity file.
    pub file: Option<At<String>>,
    /// An output directory of tbot.
    pub directory: Option<At<String>>,
    /// A private key.
    pub key: Option<At<String>>,
    /// Its certificate, with `key`.
    pub certificate: Option<At<String>>,
    /// An agent's socket; none for the caller's.
    pub agent: Option<At<Option<String>>>,
}

/// One `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Where the table begins.
    pub line: usize,
    /// The hosts it takes.
    pub hosts: Option<At<Vec<At<Pattern>>>>,
    /// The upstream that reaches them.
    pub upstream: Option<At<String>>,
    /// An ending to take off.
    pub strip_suffix: Option<At<String>>,
    /// Inventory names, in lower case, and their nodes.
    pub map: Option<At<BTreeMap<String, String>>>,
    /// The port to ask for.
    pub port: Option<At<u32>>,
    /// The cluster to ask for.
    pub cluster: Option<At<String>>,
    /// The SSH login towards the proxy.
    pub login: Option<At<String>>,
    /// The name of an `[identity.…]`.
    pub identity: Option<At<String>>,
}

impl File {
    /// Reads the text. The file is as complete as the complaints allow.
    #[must_use]
    pub fn read(text: &str) -> (Self, Vec<Complaint>) {
        let page = Page::new(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let syntax = errors.iter().map(|error| Complaint {
            line: error.span().map_or(1, |span| page.line(&span)),
            message: format!("this is not TOML: {}", error.message()),
        });
        let syntax = syntax.collect();
        let top = Section::new(&page, document.get_ref(), String::new(), 1);
        let file = Self {
            default: top.string("default"),
            upstreams: top.named("upstream").into_iter().map(|(n, s)| (n, UpstreamTable::read(s))).collect(),
            identities: top.named("identity").into_iter().map(|(n, s)| (n, IdentityTable::read(s))).collect(),
            routes: top.listed("route").into_iter().map(RouteTable::read).collect(),
            metrics: top.single("metrics").map(MetricsTable::read),
        };
        top.finish();
        (file, page.into_complaints(syntax))
    }
}

impl MetricsTable {
    fn read(section: Section<'_>) -> Self {
        let table = Self { listen: section.parsed("listen", loopback) };
        section.require(&["listen"]);
        section.finish();
        table
    }
}

impl IdentityTable {
    fn read(section: Section<'_>) -> Self {
        let table = Self {
            line: section.line,
            tsh: section.true_or_string("tsh"),
            home: section.parsed("home", path),
            file: section.parsed("file", path),
            directory: section.parsed("directory", path),
            key: section.parsed("key", path),
            certificate: section.parsed("certificate", path),
            agent: section.true_or_string("agent"),
        };
        section.finish();
        table
    }
}

impl RouteTable {
    fn read(section: Section<'_>) -> Self {
        let table = Self {
            line: section.line,
            hosts: section.list("hosts", Pattern::parse),
            upstream: section.string("upstream"),
            strip_suffix: section.parsed("strip_suffix", ending),
            map: section.map("map", node_name),
            port: section.number("port", 1, 65535),
            cluster: section.parsed("cluster", word),
            login: section.parsed("login", word),
            identity: section.string("identity"),
        };
        section.require(&["hosts", "upstream"]);
        section.finish();
        table
    }
}

/// An address and a port that only this machine can reach: who asks there is not asked who they are.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err(format!(
            "{text:?} can be reached from elsewhere, and there is no password; write \"127.0.0.1:9464\" or \"[::1]:9464\""
        )),
        Err(_) => Err(format!("{text:?} is no address with a port; write \"127.0.0.1:9464\"")),
    }
}

fn node_name(text: &str) -> Result<String, String> {
    NodeAddr::new(text, "22")
        .map(|node| node.host)
        .map_err(|error| format!("{text:?} is no node name: {error}"))
}

/// `.prod.example.com`; without its dot it would cut names in the middle.
fn ending(text: &str) -> Result<String, String> {
    match text.strip_prefix('.') {
        Some(rest) if node_name(rest).is_ok() => Ok(text.to_owned()),
        Some(_) => Err(format!("{text:?} is no end of a host name")),
        None => Err(format!("{text:?} must begin with a dot")),
    }
}

/// A login or a cluster: one word that cannot be mistaken for something else in `proxy:host:port@cluster`.
fn word(text: &str) -> Result<String, String> {
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || "@:/".contains(*c)) {
        Some(bad) => Err(format!("{text:?} holds {bad:?}")),
        None if text.is_empty() => Err("is empty".into()),
        None => Ok(text.to_owned()),
    }
}

/// Absolute, or in the home folder: the broker's working directory is `/`.
fn path(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("{text:?} holds a zero byte"));
    }
    if text.starts_with('/') || text.starts_with("~/") {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} must begin with / or ~/, because the broker has no working directory of yours"))
}
