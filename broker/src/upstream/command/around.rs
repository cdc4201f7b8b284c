//! What a command finds around it: folder, environment, shell.

use natssh_wire::environment::is_kept;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a command finds around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Around {
    /// The broker's own folder and environment, and the ssh agent of whoever asks.
    Broker(Option<PathBuf>),
    /// What whoever asks has around it, as with ssh.
    Caller {
        /// The folder.
        directory: PathBuf,
        /// The whole environment.
        environment: Arc<[(OsString, OsString)]>,
    },
}

impl Default for Around {
    fn default() -> Self {
        Self::Broker(None)
    }
}

impl Around {
    /// All variables.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        match self {
            Self::Broker(agent) => std::env::vars_os()
                .filter(|(name, _)| name != "SSH_AUTH_SOCK" && name.to_str().is_some_and(is_kept))
                .chain(agent.iter().map(|socket| ("SSH_AUTH_SOCK".into(), socket.into())))
                .collect(),
            Self::Caller { environment, .. } => environment.to_vec(),
        }
    }

    /// The folder.
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Broker(_) => Path::new("/"),
            Self::Caller { directory, .. } => directory,
        }
    }

    /// The user's shell, as ssh finds it.
    pub(super) fn shell(&self) -> OsString {
        let shell = match self {
            Self::Broker(_) => std::env::var_os("SHELL"),
            Self::Caller { environment, .. } => {
                environment.iter().find(|(name, _)| name == "SHELL").map(|(_, shell)| shell.clone())
            }
        };
        shell.filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
    }
}
