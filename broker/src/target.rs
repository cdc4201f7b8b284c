//! What a call of ssh means, once OpenSSH's own parser has said so: whom to reach, as whom, whom to believe.
//!
//! Values only. `settings` makes one of a request, `session` opens a connection by it, and the whole of it is
//! the pool's key: whatever changes who one is or whom one trusts is in here, and nothing else is.

use natssh_wire::NodeAddr;
use natssh_wire::exec::Resolution;
use natssh_wire::node::BadNodeAddr;
use natssh_wire::ssh_words::LogLevel;
use natssh_wire::terminal::Terminal;
use std::path::PathBuf;
use std::time::Duration;

/// A node as one call of ssh means it. Names are as in ssh_config(5); every token and `~` is expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// `HostName`: whom to reach.
    pub host: String,
    /// The name as it was typed (`%n`).
    pub typed: String,
    /// `Port`.
    pub port: u16,
    /// `User`.
    pub user: String,
    /// `BindAddress`.
    pub bind_address: Option<String>,
    /// How to get there.
    pub way: Way,
    /// Who to be.
    pub proof: Proof,
    /// Whom to believe.
    pub trust: Trust,
    /// Algorithm lists, in the order of preference, where the user set any.
    pub algorithms: Algorithms,
}

impl Target {
    /// `root@web-3`, for people.
    #[must_use]
    pub fn peer(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }

    /// Where it is.
    ///
    /// # Errors
    /// The host has a name that no way could carry.
    pub fn address(&self) -> Result<NodeAddr, BadNodeAddr> {
        NodeAddr::new(&self.host, &self.port.to_string())
    }
}

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// As natssh's own routes say: a route in natssh.toml, a tsh profile, or plain TCP.
    Route,
    /// `ProxyJump`: through these, the first one first.
    Jump(Vec<Target>),
    /// `ProxyCommand`, expanded.
    Command(String),
}

/// What is offered to prove who one is, in ssh's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Proof {
    /// `IdentityFile`, each with the certificates that go with it.
    pub keys: Vec<PathBuf>,
    /// `CertificateFile`.
    pub certificates: Vec<PathBuf>,
    /// `IdentitiesOnly`: nothing of the agent's but these.
    pub only_these: bool,
    /// `IdentityAgent`, or the caller's `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// The methods beside keys that ssh would go on to (RFC 4252's names): none under `BatchMode`, for one.
    pub other_ways: Vec<&'static str>,
}

/// By what the node is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Trust {
    /// `HostKeyAlias`.
    pub alias: Option<String>,
    /// `UserKnownHostsFile`; the first is written to.
    pub user_files: Vec<PathBuf>,
    /// `GlobalKnownHostsFile`.
    pub global_files: Vec<PathBuf>,
    /// `KnownHostsCommand`, its tokens not expanded: they are of the key that is shown.
    pub command: Option<String>,
    /// `StrictHostKeyChecking`.
    pub strict: Strict,
    /// `HashKnownHosts`: how a new key is written.
    pub hash: bool,
}

/// `StrictHostKeyChecking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strict {
    /// A key that is not known is refused.
    Yes,
    /// It is written down and believed.
    AcceptNew,
    /// Anything is believed, and a key that is not known is written down.
    No,
    /// A person decides: the real ssh asks.
    Ask,
}

/// Algorithm lists; an empty one is natssh's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Algorithms {
    /// `KexAlgorithms`.
    pub key_exchange: Vec<String>,
    /// `Ciphers`.
    pub ciphers: Vec<String>,
    /// `MACs`.
    pub macs: Vec<String>,
    /// `HostKeyAlgorithms`.
    pub host_keys: Vec<String>,
    /// `PubkeyAcceptedAlgorithms`.
    pub public_keys: Vec<String>,
    /// `CASignatureAlgorithms`.
    pub authorities: Vec<String>,
    /// `RequiredRSASize`: RSA keys of fewer bits are neither shown nor believed. 0 where the user set none.
    pub least_rsa: u32,
}

/// What a call wants of its session, and is no part of the session's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `ConnectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `ServerAliveInterval` and `ServerAliveCountMax`, where the user set a positive one.
    pub alive: Option<(Duration, u32)>,
    /// `ControlPersist`'s time: how long the session is kept unused.
    pub keep: Option<Duration>,
    /// `SetEnv` and what `SendEnv` picks of the caller's environment, in the order in which they are sent.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is run.
    pub run: Run,
    /// The terminal that it is run at.
    pub terminal: Option<Pty>,
    /// It would have been run at one, had there been one here.
    pub lacks_terminal: bool,
    /// Nothing of the caller's standard input is wanted: `-n`, `StdinNull`, `-N`.
    pub no_input: bool,
    /// `LogLevel`: what is said beside the command's own output.
    pub level: LogLevel,
}

/// What is run on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Run {
    /// The login shell, on standard input.
    #[default]
    Shell,
    /// A command line for the login shell: the words joined by blanks, or `RemoteCommand`.
    Command(Vec<u8>),
    /// A subsystem.
    Subsystem(String),
}

/// A terminal that a node is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// `TERM`.
    pub name: String,
    /// Its size and its modes.
    pub like: Terminal,
    /// `EscapeChar`: the byte by which the client is told things, and not the node.
    pub escape: Option<u8>,
    /// What happens without.
    pub need: Need,
}

/// What happens where a node gives no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It was asked for explicitly (`-t`, `RequestTTY yes`): the call ends.
    Must,
    /// A shell was to have one: it runs without.
    May,
}

/// What a call wants of a session that runs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// `-W`: standard input and output are connected to this port, as the node knows it.
    Forward(NodeAddr),
    /// `-N`: that it is there.
    Nothing,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// natssh runs it.
    Native(Box<Target>, Wishes),
    /// natssh has the session for it; nothing is run.
    Connection(Box<Target>, Wishes, Purpose),
    /// The real ssh has to, with what it is to be told.
    RealSsh(Resolution),
}
