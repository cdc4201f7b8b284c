//! The one error that crosses the socket.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a request was refused, for a person and for a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What code decides by.
    pub kind: FailureKind,
    /// One sentence: who failed, on what. Lower case, no full stop.
    pub message: String,
    /// A command to type next, or one sentence where no command helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of failure. Unknown words from a newer broker read as `Internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request itself made no sense (400).
    BadRequest,
    /// The peer speaks another version of the local API (426).
    Version,
    /// No node of that name is known upstream (404).
    UnknownNode,
    /// The node is known, or may be, but has no tunnel at the moment (502).
    Offline,
    /// More than one node answers to that name (409).
    Ambiguous,
    /// The upstream or the node said no: permission, RBAC, MFA (403).
    Denied,
    /// A certificate is expired or not yet valid, a key is missing or unusable (401).
    Identity,
    /// The server's key or certificate is not the one that was expected (495 in spirit; sent as 403).
    HostKey,
    /// The upstream could not be reached (502).
    Unreachable,
    /// No answer within the time the caller gave (504).
    Timeout,
    /// A limit of the broker or the upstream was reached (503).
    Busy,
    /// The broker is shutting down or draining (503).
    Draining,
    /// The configuration does not allow it or is wrong (500).
    Config,
    /// The upstream broke its protocol, or closed the connection in the middle (502).
    Protocol,
    /// A stream was cut after it had been opened; never an answer to a request, only in `failures` (502).
    Cut,
    /// The node's file system said no: a missing folder, a forbidden path, a full disk (422).
    File,
    /// The settings ask for what only the real ssh does, and nobody runs it for this request (501).
    NeedsSsh,
    /// A defect of natssh (500).
    #[serde(other)]
    Internal,
}

impl FailureKind {
    /// The kind as one word, as it stands in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Version => "version",
            Self::UnknownNode => "unknown_node",
            Self::Offline => "offline",
            Self::Ambiguous => "ambiguous",
            Self::Denied => "denied",
            Self::Identity => "identity",
            Self::HostKey => "host_key",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Config => "config",
            Self::Protocol => "protocol",
            Self::Cut => "cut",
            Self::File => "file",
            Self::NeedsSsh => "needs_ssh",
            Self::Internal => "internal",
        }
    }

    /// The status code of the HTTP answer that carries a failure of this kind.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Identity => 401,
            Self::Denied | Self::HostKey => 403,
            Self::UnknownNode => 404,
            Self::Ambiguous => 409,
            Self::File => 422,
            Self::Version => 426,
            Self::NeedsSsh => 501,
            Self::Config | Self::Internal => 500,
            Self::Offline | Self::Unreachable | Self::Protocol | Self::Cut => 502,
            Self::Busy | Self::Draining => 503,
            Self::Timeout => 504,
        }
    }
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same failure with the next thing to type.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `message`, and in brackets the hint: one line for ssh's stderr.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{} ({hint})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(FailureKind, &str, u16); 18] = [
        (FailureKind::BadRequest, "bad_request", 400),
        (FailureKind::Version, "version", 426),
        (FailureKind::UnknownNode, "unknown_node", 404),
        (FailureKind::Offline, "offline", 502),
        (FailureKind::Ambiguous, "ambiguous", 409),
        (FailureKind::Denied, "denied", 403),
        (FailureKind::Identity, "identity", 401),
        (FailureKind::HostKey, "host_key", 403),
        (FailureKind::Unreachable, "unreachable", 502),
        (FailureKind::Timeout, "timeout", 504),
        (FailureKind::Busy, "busy", 503),
        (FailureKind::Draining, "draining", 503),
        (FailureKind::Config, "config", 500),
        (FailureKind::Protocol, "protocol", 502),
        (FailureKind::Cut, "cut", 502),
        (FailureKind::File, "file", 422),
        (FailureKind::NeedsSsh, "needs_ssh", 501),
        (FailureKind::Internal, "internal", 500),
    ];

    #[test]
    fn the_words_on_the_wire_stay_what_they_are() {
        for (kind, word, status) in KINDS {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<FailureKind>(&format!("\"{word}\"")).unwrap(), kind);
            assert_eq!(kind.word(), word);
            assert_eq!(kind.http_status(), status);
            let row = if kind == FailureKind::Cut {
                "| `cut` | — |".into()
            } else {
                format!("| `{word}` | {status} |")
            };
            assert!(include_str!("../../../PROTOCOL.md").contains(&row), "PROTOCOL.md lacks {row}");
        }
        assert_eq!(serde_json::from_str::<FailureKind>("\"newer\"").unwrap(), FailureKind::Internal);
    }

    #[test]
    fn the_hint_follows_in_brackets() {
        let failure = Failure::new(FailureKind::Offline, "node web-3 is offline");
        assert_eq!(failure.to_string(), "node web-3 is offline");
        assert!(!serde_json::to_string(&failure).unwrap().contains("hint"));
        assert_eq!(failure.hint("natssh status").to_string(), "node web-3 is offline (natssh status)");
    }
}
