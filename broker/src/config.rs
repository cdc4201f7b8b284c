//! The configuration: one TOML file, or none for someone who has run `tsh login`.
//!
//! Three steps. `file` reads the text, `check` collects everything that is wrong
//! with it, `resolve` fills in what was left out. The running broker sees only
//! what comes out of the last: `Settings`.

mod check;
pub mod cli;
pub mod complaint;
pub mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod known;
mod page;
pub mod resolve;
mod show;
pub mod watch;

use crate::identity::{self, Source};
use crate::proxy_command::ProxyCommand;
use crate::routes::Routes;
pub use complaint::Complaints;
use file::File;
use known::Known;
use natssh_wire::NodeAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the broker runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file they come from, if there is one.
    pub path: Option<PathBuf>,
    /// By name; `direct` is always among them.
    pub upstreams: BTreeMap<String, Upstream>,
    /// By name; every identity that an upstream or a route names is among them.
    pub identities: BTreeMap<String, Source>,
    /// Those of them that are tsh profiles beside the current one, and that the file does not name:
    /// a login that is over there is nobody's trouble before somebody asks for it.
    pub spare: BTreeSet<String>,
    /// Which upstream reaches a node.
    pub routes: Routes,
    /// Where metrics are served besides the local socket; a loopback address.
    pub metrics: Option<SocketAddr>,
    /// What a person should know though it is no error.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The upstreams, each after the one that it is reached by.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Upstream> {
        let mut ordered: Vec<&Upstream> = self.upstreams.values().collect();
        ordered.sort_by_key(|upstream| self.depth(upstream));
        ordered
    }

    /// How many upstreams are on the way to one; `check` refuses circles.
    fn depth(&self, upstream: &Upstream) -> usize {
        let below = upstream.via().and_then(|via| self.upstreams.get(via));
        below.map_or(0, |below| 1 + self.depth(below))
    }
}

/// One upstream, all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the file, or the tsh profile's.
    pub name: String,
    /// The identity it authenticates with; none for plain TCP.
    pub identity: Option<String>,
    /// The SSH login towards the proxy; none for the certificate's first principal.
    pub login: Option<String>,
    /// The cluster of its nodes; none for the one that the certificate names.
    pub cluster: Option<String>,
    /// Files with host CAs and keys besides those that the identity brings.
    pub known_hosts: Vec<PathBuf>,
    /// The deadline of a dial, from 1 s to 9 s.
    pub connect_timeout: Duration,
    /// After this silence a trunk is suspect; after three times this it is closed.
    pub keepalive: Duration,
    /// How many streams share a trunk.
    pub streams_per_trunk: usize,
    /// A trunk is replaced at this age, or up to a tenth before.
    pub max_age: Duration,
    /// How many connections that have not authenticated yet it brings to one server at a time.
    pub handshakes: usize,
    /// How it opens streams.
    pub kind: Kind,
}

/// The kinds of upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The SSH listener of a Teleport proxy.
    Teleport {
        /// Where it listens.
        proxy: NodeAddr,
        /// Where it, or another of the same cluster, listens too.
        others: Vec<NodeAddr>,
        /// How TLS leads to it; none where it has a port of its own.
        tls: Option<TlsRouting>,
    },
    /// An OpenSSH server that forwards.
    Bastion(Bastion),
    /// Plain TCP.
    Direct,
    /// A ProxyCommand.
    Command(ProxyCommand),
}

/// A proxy that serves all protocols on one port, inside TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsRouting {
    /// Files with authorities (PEM) that may have signed its certificate, besides those that the identity brings.
    pub authorities: Vec<PathBuf>,
    /// Whether something in between ends TLS, so that HTTP has to make a tunnel first.
    pub upgrade: bool,
}

/// What a bastion has that others have not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bastion {
    /// Where it listens.
    pub host: NodeAddr,
    /// The login where neither the upstream nor the route names one: this machine's user, as with ssh.
    pub login: String,
    /// The upstream that reaches it; none for plain TCP.
    pub via: Option<String>,
    /// The path of a socket on the bastion, with `{node}` and `{port}` in it, instead of the node's own address.
    pub socket: Option<String>,
}

impl Settings {
    /// The upstreams that authenticate with this identity, by themselves or by a route.
    #[must_use]
    pub fn upstreams_of(&self, identity: &str) -> Vec<String> {
        let by_route = self.routes.rules.iter().filter(|rule| rule.identity.as_deref() == Some(identity));
        let by_route: BTreeSet<&str> = by_route.map(|rule| rule.upstream.as_str()).collect();
        let uses = |upstream: &&Upstream| {
            upstream.identity.as_deref() == Some(identity) || by_route.contains(upstream.name.as_str())
        };
        self.upstreams.values().filter(uses).map(|upstream| upstream.name.clone()).collect()
    }
}

impl Upstream {
    /// Plain TCP, and for other kinds the place to start from.
    fn direct(name: &str) -> Self {
        Self {
            name: name.into(),
            identity: None,
            login: None,
            cluster: None,
            known_hosts: Vec::new(),
            connect_timeout: resolve::CONNECT_TIMEOUT,
            keepalive: resolve::KEEPALIVE,
            streams_per_trunk: resolve::STREAMS_PER_TRUNK as usize,
            max_age: resolve::MAX_AGE,
            handshakes: resolve::HANDSHAKES as usize,
            kind: Kind::Direct,
        }
    }

    /// The upstream that reaches this one; none for plain TCP.
    #[must_use]
    pub fn via(&self) -> Option<&str> {
        match &self.kind {
            Kind::Bastion(bastion) => bastion.via.as_deref(),
            Kind::Teleport { .. } | Kind::Command(_) | Kind::Direct => None,
        }
    }

    /// All addresses of the server in between, the first one first.
    #[must_use]
    pub fn proxies(&self) -> Vec<&NodeAddr> {
        let others = match &self.kind {
            Kind::Teleport { others, .. } => others.as_slice(),
            Kind::Bastion(_) | Kind::Direct | Kind::Command(_) => &[],
        };
        self.proxy().into_iter().chain(others).collect()
    }

    /// The address of the server in between, for an upstream that has one and is reached directly.
    #[must_use]
    pub fn proxy(&self) -> Option<&NodeAddr> {
        match &self.kind {
            Kind::Teleport { proxy, .. } => Some(proxy),
            Kind::Bastion(Bastion { host, via: None, .. }) => Some(host),
            Kind::Bastion(_) | Kind::Direct | Kind::Command(_) => None,
        }
    }
}

/// What of the process's environment the configuration depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NATSSH_CONFIG`: this file and no other, and it must exist.
    pub natssh_config: Option<PathBuf>,
    /// The platform's folder for configuration (`dirs::config_dir`).
    pub config_dir: Option<PathBuf>,
    /// The home folder.
    pub home: PathBuf,
    /// `TELEPORT_HOME`: the folder of tsh, usually `~/.tsh`.
    pub teleport_home: Option<OsString>,
    /// The user's name on this machine.
    pub user: String,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            natssh_config: variable("NATSSH_CONFIG").map(PathBuf::from),
            config_dir: dirs::config_dir(),
            home: dirs::home_dir().unwrap_or_else(|| PathBuf::from("/")),
            teleport_home: variable("TELEPORT_HOME"),
            user: user(),
        }
    }

    /// The folder of tsh.
    #[must_use]
    pub fn tsh_home(&self) -> PathBuf {
        let home = identity::tsh::home(self.teleport_home.as_deref(), Some(&self.home));
        home.unwrap_or_else(|| self.home.join(".tsh"))
    }

    /// Where the file is, or would be; none on a machine without a home.
    #[must_use]
    pub fn config_path(&self) -> Option<PathBuf> {
        let usual = || Some(self.config_dir.as_ref()?.join("natssh/natssh.toml"));
        self.natssh_config.clone().or_else(usual)
    }
}

/// The name of the user that this process runs as, as ssh finds it: from the system, not from a variable.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_system = passwd.lines().find_map(of_line);
    // An account that only a directory service knows is in no file.
    of_system.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| uid.to_string())
}

/// Reads, checks and resolves the configuration. It reads files, so async callers put it on a blocking thread.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn load(env: &Environment) -> Result<Settings, Complaints> {
    load_with_file(env).map(|(settings, _)| settings)
}

/// The same, together with the file as it was written.
fn load_with_file(env: &Environment) -> Result<(Settings, File), Complaints> {
    let mut known = Known::look_up(env);
    let (path, file) = match read(env)? {
        Some((path, text)) => {
            let profiles: Vec<&str> = known.profiles().map(|profile| profile.name.as_str()).collect();
            let file = checked(&path, &text, &profiles)?;
            (Some(path), file)
        }
        None => (None, File::default()),
    };
    let settings = resolve::resolve(path.as_deref(), &file, &known);
    if !known.look_up_clusters(&settings) {
        return Ok((settings, file));
    }
    Ok((resolve::resolve(path.as_deref(), &file, &known), file))
}

/// The file's path and text; none when there is no file and none was asked for.
fn read(env: &Environment) -> Result<Option<(PathBuf, String)>, Complaints> {
    let Some(path) = env.config_path() else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound => match env.natssh_config {
            Some(_) => {
                Err(Complaints::whole_file(&path, "NATSSH_CONFIG names this file, and it does not exist"))
            }
            None => Ok(None),
        },
        Err(error) => Err(Complaints::whole_file(&path, format!("cannot be read: {error}"))),
    }
}

fn checked(path: &Path, text: &str, profiles: &[&str]) -> Result<File, Complaints> {
    let (file, mut complaints) = File::read(text);
    complaints.extend(check::check(&file, profiles));
    Complaints::none_of(path, complaints)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
