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
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
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
    /// Which upstream reaches a node.
    pub routes: Routes,
    /// What a person should know though it is no error.
    pub warnings: Vec<String>,
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
    },
    /// Plain TCP.
    Direct,
    /// A ProxyCommand.
    Command(ProxyCommand),
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
            handshakes: resolve::HANDSHAKES as usize,
            kind: Kind::Direct,
        }
    }

    /// The proxy's address, for an upstream that has one.
    #[must_use]
    pub fn proxy(&self) -> Option<&NodeAddr> {
        match &self.kind {
            Kind::Teleport { proxy } => Some(proxy),
            Kind::Direct | Kind::Command(_) => None,
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
            let file = checked(&path, &text, known.current.as_ref().map(|profile| profile.name.as_str()))?;
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

fn checked(path: &Path, text: &str, profile: Option<&str>) -> Result<File, Complaints> {
    let (file, mut complaints) = File::read(text);
    complaints.extend(check::check(&file, profile));
    Complaints::none_of(path, complaints)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
