//! What is wrong with an identity: one sentence, and what to type.

use super::lifetime::span;
use natssh_wire::{Failure, FailureKind};
use std::fmt;
use std::path::PathBuf;

/// Why an identity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A file that should be there is not.
    #[error("there is no {what} at {}", .path.display())]
    Missing {
        /// What it would hold.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// How to get one.
        renew: String,
    },
    /// A file may not be read, or is no file.
    #[error("{} cannot be read: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said, and whose file it is.
        why: String,
    },
    /// A file was read and does not serve.
    #[error("{} {fault}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
        /// How to get a better one.
        renew: String,
    },
    /// The agent does not serve.
    #[error("{fault}")]
    Agent {
        /// What is wrong with it.
        fault: AgentFault,
    },
    /// The certificate is past its end.
    #[error("the certificate of {whose} expired {} ago", span(*.since))]
    Expired {
        /// The user it names.
        whose: String,
        /// Seconds since its end.
        since: u64,
        /// How to get a new one.
        renew: String,
    },
    /// The certificate's beginning is still to come.
    #[error("the certificate of {whose} begins in {}: this machine's clock is slow by at least that, unless the certificate was made for later", span(*.starts_in))]
    NotYetValid {
        /// The user it names.
        whose: String,
        /// Seconds until then.
        starts_in: u64,
    },
    /// The certificate does not allow a login.
    #[error("the certificate of {whose} {}", login_fault(.wanted.as_deref(), .allowed))]
    Login {
        /// The user it names.
        whose: String,
        /// The login asked for, if one was.
        wanted: Option<String>,
        /// Those that it allows.
        allowed: Vec<String>,
    },
}

/// What is wrong with a file; reads on after its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFault {
    /// Others than its owner may read the private key: refused, as ssh does.
    Exposed {
        /// The permission bits.
        mode: u32,
    },
    /// A passphrase protects the private key.
    Encrypted,
    /// The private key is in a security key (FIDO); the file only refers to it.
    Hardware,
    /// The private key is in a YubiKey's PIV slot, where tsh alone reaches it: `x/crypto/ssh/agent`
    /// cannot hand it to an ssh agent either (gravitational/teleport#18449).
    Piv,
    /// It does not hold what it should.
    Garbage {
        /// What it should hold.
        expected: &'static str,
        /// What was found.
        why: String,
    },
    /// The certificate is for another key.
    OtherKey {
        /// Where the private key is.
        key: PathBuf,
    },
    /// The certificate is a host's.
    HostCertificate,
}

/// What is wrong with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFault {
    /// None is named.
    Unset,
    /// Nothing answers, or not in time, or not sensibly.
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It answers and holds nothing.
    Empty {
        /// Its socket.
        socket: PathBuf,
    },
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed { mode } => write!(f, "holds a private key that others may read (mode {mode:04o})"),
            Self::Encrypted => f.write_str("holds a private key that needs a passphrase"),
            Self::Hardware => f.write_str("only refers to a private key in a security key"),
            Self::Piv => {
                f.write_str("only refers to a private key in a YubiKey (PIV), which tsh alone can use")
            }
            Self::Garbage { expected, why } => write!(f, "holds no {expected}: {why}"),
            Self::OtherKey { key } => write!(f, "is a certificate for another key than {}", key.display()),
            Self::HostCertificate => f.write_str("is the certificate of a host and not of a user"),
        }
    }
}

impl fmt::Display for AgentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("no ssh agent is named: SSH_AUTH_SOCK is not set"),
            Self::Silent { socket, why } => {
                write!(f, "the ssh agent at {} does not answer: {why}", socket.display())
            }
            Self::Empty { socket } => write!(f, "the ssh agent at {} holds no usable key", socket.display()),
        }
    }
}

impl IdentityError {
    /// Whether it may come from files that are being rewritten at this moment.
    #[must_use]
    pub fn may_be_torn(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Unusable { fault: FileFault::Garbage { .. } | FileFault::OtherKey { .. }, .. }
        )
    }

    /// For the one who asked.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let failure = Failure::new(FailureKind::Identity, self.to_string());
        match self {
            Self::Missing { renew, .. } | Self::Expired { renew, .. } => failure.hint(renew),
            Self::Unreadable { path, .. } => failure.hint(format!("ls -l {}", quoted(path))),
            Self::Unusable { path, fault, renew } => match fault {
                FileFault::Exposed { .. } => failure.hint(format!("chmod 600 {}", quoted(path))),
                FileFault::Encrypted => failure
                    .hint(format!("ssh-add {}, and let the identity come from the agent", quoted(path))),
                FileFault::Hardware => {
                    failure.hint("load it into an ssh agent, and let the identity come from the agent")
                }
                FileFault::Piv => failure.hint(
                    "tsh ssh HOST; for natssh, log in with a role that asks for no hardware key, or use tbot",
                ),
                FileFault::Garbage { .. } | FileFault::OtherKey { .. } | FileFault::HostCertificate => {
                    failure.hint(renew)
                }
            },
            Self::Agent { fault: AgentFault::Unset } => failure.hint("eval \"$(ssh-agent)\" && ssh-add"),
            Self::Agent { fault: AgentFault::Silent { socket, .. } } => {
                failure.hint(format!("SSH_AUTH_SOCK={} ssh-add -l", quoted(socket)))
            }
            Self::Agent { fault: AgentFault::Empty { .. } } => failure.hint("ssh-add, or tsh login"),
            Self::NotYetValid { .. } => failure.hint(SET_THE_CLOCK),
            Self::Login { allowed, wanted, .. } => match (allowed.first(), wanted) {
                (Some(login), Some(_)) => {
                    failure.hint(format!("ssh -l {login} …, or ask for a role that allows the login"))
                }
                _ => failure.hint("name a login: ssh -l LOGIN …"),
            },
        }
    }
}

/// Starts what keeps the clock right.
const SET_THE_CLOCK: &str = if cfg!(target_os = "macos") {
    "sudo sntp -sS time.apple.com"
} else {
    "timedatectl; sudo timedatectl set-ntp true"
};

fn login_fault(wanted: Option<&str>, allowed: &[String]) -> String {
    match (wanted, allowed) {
        (Some(wanted), []) => format!("allows no login, so not {wanted:?} either"),
        (Some(wanted), allowed) => {
            format!("does not allow the login {wanted:?}, only {}", allowed.join(", "))
        }
        (None, _) => "names no login".into(),
    }
}

/// For a shell: as it is where that is safe, else in single quotes.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@%,=~".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
