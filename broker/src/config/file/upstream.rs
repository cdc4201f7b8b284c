//! `[upstream.NAME]`: its keys, which kinds know them, and what their values mean.

use super::{At, Section, path, word};
use crate::proxy_command::ProxyCommand;
use natssh_wire::NodeAddr;
use std::time::Duration;

/// The port of a Teleport proxy's SSH listener, where none is written.
pub const PROXY_PORT: u16 = 3023;
/// The same with TLS routing, where it is the web listener's.
const TLS_PORT: u16 = 443;
/// The port of a bastion, where none is written.
const BASTION_PORT: u16 = 22;

/// One `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTable {
    /// Where the table begins.
    pub line: usize,
    /// `teleport`, `bastion`, `command` or `direct`.
    pub kind: Option<At<KindWord>>,
    /// The proxy's SSH listener, or those of several; with TLS routing its web listener.
    pub proxy: Option<At<Vec<NodeAddr>>>,
    /// Whether SSH goes through the proxy's web listener.
    pub tls_routing: Option<At<bool>>,
    /// Whether a load balancer ends TLS before the proxy.
    pub connection_upgrade: Option<At<bool>>,
    /// Files with more authorities for TLS routing.
    pub tls_ca: Option<At<Vec<At<String>>>>,
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

impl UpstreamTable {
    pub(super) fn read(section: Section<'_>) -> Self {
        let tls_routing = section.boolean("tls_routing");
        let proxy_port = if tls_routing.as_ref().is_some_and(|at| at.value) { TLS_PORT } else { PROXY_PORT };
        let table = Self {
            line: section.line,
            kind: section.parsed("kind", KindWord::parse),
            proxy: section.one_or_several("proxy", |text| proxy_address(text, proxy_port)),
            tls_routing,
            connection_upgrade: section.boolean("connection_upgrade"),
            tls_ca: section.list("tls_ca", path),
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

    /// Every key that only some kinds know, with its line where it is written.
    #[must_use]
    pub fn keys(&self) -> [(&'static str, Option<usize>); 15] {
        fn line<T>(at: &Option<At<T>>) -> Option<usize> {
            at.as_ref().map(|at| at.line)
        }
        [
            ("proxy", line(&self.proxy)),
            ("tls_routing", line(&self.tls_routing)),
            ("connection_upgrade", line(&self.connection_upgrade)),
            ("tls_ca", line(&self.tls_ca)),
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
            Self::Teleport => {
                trunks || ["proxy", "tls_routing", "connection_upgrade", "tls_ca", "cluster"].contains(&key)
            }
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

fn proxy_address(text: &str, port: u16) -> Result<NodeAddr, String> {
    if text.contains("://") {
        return Err(format!(
            "{text:?} is a URL; write the address of the proxy, such as \"teleport.example.com:{port}\""
        ));
    }
    address(text, port)
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
