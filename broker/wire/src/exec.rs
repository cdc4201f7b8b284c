//! `POST /v1/exec`, `POST /v1/resolve` and `POST /v1/control`: a call of ssh, as data.
//!
//! A client sends the words that it would have given to ssh and what ssh would
//! have seen around it; the broker parses, asks `ssh -G`, and either runs the
//! command on a session of its own or says that the real ssh has to.

use crate::terminal::Terminal;
use crate::word::Word;
use serde::{Deserialize, Serialize};

/// What `Upgrade` says in the request and in the answer to it.
pub const UPGRADE: &str = "natssh-exec";

/// A header of the answer 101: what becomes of standard input, where that is not passed on.
pub const STDIN_HEADER: &str = "natssh-stdin";
/// Its value: nothing of it is wanted, so that none should be read.
pub const NO_STDIN: &str = "none";

/// The longest body: Linux gives a process 2 MiB of words and environment, and JSON may double them.
pub const EXEC_BODY_LIMIT: usize = 8 << 20;

/// The body of all three requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// All words behind `ssh`: options, host, command.
    pub words: Vec<Word>,
    /// The caller's working directory: where `-F` and `IdentityFile` start from.
    pub directory: Word,
    /// The caller's environment: for `ssh -G`, for `SendEnv`, for `SSH_AUTH_SOCK`. Never logged.
    pub environment: Vec<(Word, Word)>,
    /// Which of the caller's standard streams are terminals.
    #[serde(default)]
    pub terminals: Terminals,
    /// The terminal that a node is asked for one like, where the call wants one. Without it the client does not know
    /// how to be a terminal, and such a call is the real ssh's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// The caller's patience for the connection in milliseconds, where it sets one of its own: the settings'
    /// `ConnectTimeout` holds otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which of a caller's standard streams are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// What became of `-O`: the answer to `control`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controlled {
    /// With `check`, sessions that are open; with `stop` and `exit`, those that it meant.
    pub sessions: u64,
    /// The broker's process, which keeps them.
    pub pid: u32,
    /// Whether the real ssh has to be asked as well: a master of its own listens, or no session of natssh's is meant.
    pub real_ssh: bool,
    /// Whose session it was about, for messages: `root@web-3`; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// What becomes of a call: the answer to `resolve`, and to an `exec` that is not natssh's to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// True when natssh runs it; false when the real ssh has to.
    pub native: bool,
    /// Why the real ssh has to, in words for `-v`; none when natssh runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True when the real ssh reaches the host only through natssh: `natssh proxy` is its ProxyCommand then.
    pub tunnel: bool,
    /// `HostName`, `Port` and `User` as they hold for the call.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// See `host`.
    pub user: String,
    /// What the real ssh is to be told with `-o`, before the call's own words: what natssh would go by where those and
    /// the user's files say nothing. Of a host behind a Teleport proxy: who one is there, and whom to believe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}
