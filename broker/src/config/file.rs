//! The file as it was written: every table and key natssh knows, each with its line.
//!
//! Pure: text in, tables and complaints out. What a value means by itself is
//! settled here (a duration, an address, a pattern); what tables mean to each
//! other is `check`'s business.

use super::complaint::Complaint;
pub use super::page::At;
use super::page::{Page, Section};
use crate::pattern::Pattern;
use crate::proxy_command::ProxyCommand;
use natssh_wire::NodeAddr;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use toml::de::DeTable;

/// The port of a Teleport proxy's SSH listener, where none is written.
pub const PROXY_PORT: u16 = 3023;
/// The port of a bastion, where none is written.
const BASTION_PORT: u16 = 22;

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

/// One `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTable {
    /// Where the table begins.
    pub line: usize,
    /// `teleport`, `bastion`, `command` or `direct`.
    pub kind: Option<At<KindWord>>,
    /// The proxy's SSH listener, or those of several.
    pub proxy: Option<At<Vec<NodeAddr>>>,
    /// The ProxyCommand.
    pub command: Option<At<ProxyCommand>>,
    /// A bastion's address.
    pub host: Option<At<NodeAddr>>,
    /// The upstream that reaches a bastion.
    pub via: Option<At<String>>,
    /// The path of a socket on a bastion, with `{node}` and `{port}` in it.
    pub socket: Option<At<String>>,
    /// The cluster of its nodes.
    pub cluster: Option<At<String>>,
    /// The name of an `[identity.…]`.
    pub identity: Option<At<String>>,
    /// The SSH login towards the proxy or bastion.
    pub login: Option<At<String>>,
    /// Files with more host CAs and host keys.
    pub known_hosts: Option<At<Vec<At<String>>>>,
    /// How many streams share a trunk.
    pub streams_per_trunk: Option<At<u32>>,
    /// The age at which a trunk is replaced.
    pub max_age: Option<At<Duration>>,
    /// How many handshakes one server sees at a time.
    pub handshakes: Option<At<u32>>,
    /// The deadline of a dial.
    pub connect_timeout: Option<At<Duration>>,
    /// The silence after which a trunk is suspect.
    pub keepalive: Option<At<Duration>>,
}

/// The kinds of upstream, by the word in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindWord {
    /// A Teleport proxy.
    Teleport,
    /// An OpenSSH server that forwards.
    Bastion,
    /// A ProxyCommand.
    Command,
    /// Plain TCP.
    Direct,
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

impl UpstreamTable {
    fn read(section: Section<'_>) -> Self {
        let table = Self {
            line: section.line,
            kind: section.parsed("kind", KindWord::parse),
            proxy: section.one_or_several("proxy", proxy_address),
            command: section.parsed("command", proxy_command),
            host: section.parsed("host", |text| address(text, BASTION_PORT)),
            via: section.string("via"),
            socket: section.parsed("socket", socket),
            cluster: section.parsed("cluster", word),
            identity: section.string("identity"),
            login: section.parsed("login", word),
            known_hosts: section.list("known_hosts", path),
            streams_per_trunk: section.number("streams_per_trunk", 1, 1000),
            max_age: section.duration("max_age", Duration::from_secs(60)..Duration::from_secs(7 * 86_400)),
            handshakes: section.number("handshakes", 1, 1000),
            connect_timeout: section
                .duration("connect_timeout", Duration::from_secs(1)..Duration::from_secs(9)),
            keepalive: section.duration("keepalive", Duration::from_secs(1)..Duration::from_secs(300)),
        };
        section.require(&["kind"]);
        match table.kind.as_ref().map(|kind| kind.value) {
            Some(KindWord::Teleport) => section.require(&["proxy"]),
            Some(KindWord::Command) => section.require(&["command"]),
            Some(KindWord::Bastion) => section.require(&["host"]),
            Some(KindWord::Direct) | None => {}
        }
        section.finish();
        table
    }
}

impl UpstreamTable {
    /// Every key that only some kinds know, with its line where it is written.
    #[must_use]
    pub fn keys(&self) -> [(&'static str, Option<usize>); 12] {
        fn line<T>(at: &Option<At<T>>) -> Option<usize> {
            at.as_ref().map(|at| at.line)
        }
        [
            ("proxy", line(&self.proxy)),
            ("command", line(&self.command)),
            ("host", line(&self.host)),
            ("via", line(&self.via)),
            ("socket", line(&self.socket)),
            ("cluster", line(&self.cluster)),
            ("identity", line(&self.identity)),
            ("login", line(&self.login)),
            ("known_hosts", line(&self.known_hosts)),
            ("streams_per_trunk", line(&self.streams_per_trunk)),
            ("max_age", line(&self.max_age)),
            ("keepalive", line(&self.keepalive)),
        ]
    }
}

impl KindWord {
    /// For complaints.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Teleport => "a Teleport proxy (kind = \"teleport\")",
            Self::Bastion => "a bastion (kind = \"bastion\")",
            Self::Command => "a ProxyCommand (kind = \"command\")",
            Self::Direct => "plain TCP (kind = \"direct\")",
        }
    }

    /// Whether a key of an `[upstream.NAME]` means something to this kind.
    #[must_use]
    pub fn knows(self, key: &str) -> bool {
        let trunks =
            ["identity", "login", "known_hosts", "streams_per_trunk", "max_age", "keepalive"].contains(&key);
        match self {
            Self::Teleport => trunks || ["proxy", "cluster"].contains(&key),
            Self::Bastion => trunks || ["host", "via", "socket"].contains(&key),
            Self::Command => key == "command",
            Self::Direct => false,
        }
    }

    /// Whether it authenticates with an identity.
    #[must_use]
    pub fn has_trunks(self) -> bool {
        matches!(self, Self::Teleport | Self::Bastion)
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "teleport" => Ok(Self::Teleport),
            "bastion" => Ok(Self::Bastion),
            "command" => Ok(Self::Command),
            "direct" => Ok(Self::Direct),
            "reverse" => Err(format!("{text:?} is not offered by this version; {KINDS}")),
            other => Err(format!("{other:?} is unknown; {KINDS}")),
        }
    }
}

/// The words that are offered, for complaints.
const KINDS: &str = "there is \"teleport\", \"bastion\", \"command\" and \"direct\"";

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

fn proxy_address(text: &str) -> Result<NodeAddr, String> {
    if text.contains("://") {
        return Err(format!(
            "{text:?} is a URL; write the SSH address of the proxy, such as \"teleport.example.com:{PROXY_PORT}\""
        ));
    }
    address(text, PROXY_PORT)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn address(text: &str, port: u16) -> Result<NodeAddr, String> {
    if let Some((login, host)) = text.split_once('@') {
        return Err(format!("{text:?} names a user; write {host:?}, and login = {login:?} beside it"));
    }
    let has_port = match text.rsplit_once(':') {
        Some((host, _)) => host.starts_with('[') && host.ends_with(']') || !host.contains(':'),
        None => false,
    };
    let address = if has_port { NodeAddr::parse(text) } else { NodeAddr::new(text, &port.to_string()) };
    address.map_err(|error| format!("{text:?} is no address: {error}"))
}

/// A ProxyCommand that does not ask natssh for the way.
fn proxy_command(text: &str) -> Result<ProxyCommand, String> {
    let command = ProxyCommand::parse(text).map_err(|error| error.to_string())?;
    if command.is_natssh_itself() {
        return Err("runs natssh proxy, which asks this broker for the way and would go round in a circle; \
                    write what reaches the node without natssh"
            .into());
    }
    Ok(command)
}

/// The path of a socket for each node.
fn socket(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} is no path on the bastion; write it from its root: \"/run/…\""));
    }
    if !text.contains("{node}") {
        return Err(format!(
            "{text:?} is one socket for all nodes; write {{node}} where the node's name belongs"
        ));
    }
    let rest = text.replace("{node}", "").replace("{port}", "");
    match rest.find(['{', '}']) {
        Some(_) => Err(format!("{text:?}: only {{node}} and {{port}} have a meaning in braces")),
        None => Ok(text.to_owned()),
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
