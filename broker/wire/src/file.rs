//! `PUT /v1/file` and `GET /v1/file`: a file on a node, as data.
//!
//! A client names the node as in a call of ssh, and a path there. Once it is
//! answered with 101, the file's bytes pass in the frames of an exec: standard
//! input is what is put, standard output what is read.

use crate::exec::ExecRequest;
use crate::word::Word;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// What `Upgrade` says in the request and in the answer to it.
pub const UPGRADE: &str = "natssh-file";

/// The body of both requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRequest {
    /// Which node, for whom: options and host, without a command.
    #[serde(flatten)]
    pub call: ExecRequest,
    /// The file on the node; a relative path starts in the login's home. Nothing in it is expanded.
    pub path: Word,
    /// Of a put: the permissions of a file that is not there yet, before the node takes its umask off them.
    #[serde(default)]
    pub mode: Mode,
    /// Of a put: how many bytes will come, where that is known. It only says which session carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Permissions of a file. In JSON the octal digits that chmod takes: `"644"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// The permissions of those bits: none above `0o777`, for whoever puts a file makes nothing setuid.
    #[must_use]
    pub fn new(bits: u32) -> Option<Self> {
        (bits <= 0o777).then_some(Self(bits))
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// What a program that says nothing makes files with.
impl Default for Mode {
    fn default() -> Self {
        Self(0o666)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(from)?;
        let octal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let bits = octal.then(|| u32::from_str_radix(&digits, 8).ok()).flatten();
        bits.and_then(Self::new).ok_or_else(|| de::Error::custom("mode wants octal digits, at most 777"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of PROTOCOL.md, which clients are written from.
    const EXAMPLE: &str = r#"{"words": ["-p", "22", "web-3"], "directory": "/home/alice", "environment": [["HOME", "/home/alice"]], "path": "/etc/motd", "mode": "644", "size": 12}"#;

    #[test]
    fn the_example_in_the_prose_is_understood() {
        let head = format!("Content-Length: {}\\r\\n", EXAMPLE.len());
        let prose = include_str!("../../../PROTOCOL.md");
        assert!(prose.contains(EXAMPLE) && prose.contains(&head), "PROTOCOL.md lacks {head}{EXAMPLE}");
        let request: FileRequest = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(request.call.words.len(), 3);
        assert_eq!((request.path, request.mode.bits(), request.size), ("/etc/motd".into(), 0o644, Some(12)));
    }

    #[test]
    fn what_may_be_missing_may_be_missing() {
        let least = r#"{"words": ["web-3"], "directory": "/", "environment": [], "path": {"hex": "ff"}}"#;
        let request: FileRequest = serde_json::from_str(least).unwrap();
        assert_eq!((request.path, request.mode.bits(), request.size), (vec![0xff].into(), 0o666, None));
        let pathless = r#"{"words": ["web-3"], "directory": "/", "environment": []}"#;
        assert!(serde_json::from_str::<FileRequest>(pathless).is_err());
    }

    #[test]
    fn a_mode_is_octal_digits() {
        for (digits, bits) in [("0", 0), ("644", 0o644), ("0600", 0o600), ("777", 0o777)] {
            assert_eq!(serde_json::from_str::<Mode>(&format!("\"{digits}\"")).unwrap().bits(), bits);
        }
        for bad in ["\"1000\"", "\"8\"", "\"\"", "\"+7\"", "\"-1\"", "420", "\"rw\"", "\"77777777777777\""] {
            assert!(serde_json::from_str::<Mode>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_it_was(
            words in prop::collection::vec(prop::collection::vec(1u8.., 0..20), 0..4),
            path in prop::collection::vec(1u8.., 1..40),
            bits in 0..=0o777u32, size: Option<u64>, timeout_ms: Option<u64>,
        ) {
            let words = words.into_iter().map(Word::from).collect();
            let call = ExecRequest { words, timeout_ms, ..ExecRequest::default() };
            let request = FileRequest { call, path: path.into(), mode: Mode::new(bits).unwrap(), size };
            let json = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(serde_json::from_str::<FileRequest>(&json).unwrap(), request);
        }
    }
}
