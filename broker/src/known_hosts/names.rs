//! The first field of a known_hosts line: patterns, or the hash of one name.

use crate::pattern::glob_matches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use std::fmt;

/// The hosts that one line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Patterns(Vec<Pattern>),
    /// `|1|salt|HMAC-SHA1(salt, name)`: hides the name from who steals the file.
    Hashed {
        salt: [u8; 20],
        hash: [u8; 20],
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    glob: String,
}

impl HostNames {
    /// Reads the field.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(field: &str) -> Result<Self, &'static str> {
        if let Some(hashed) = field.strip_prefix('|') {
            return Self::parse_hashed(hashed).ok_or("the hashed host name is damaged");
        }
        let pattern = |text: &str| match text.strip_prefix('!') {
            Some(glob) => Pattern { negated: true, glob: glob.to_ascii_lowercase() },
            None => Pattern { negated: false, glob: text.to_ascii_lowercase() },
        };
        Ok(Self(Form::Patterns(field.split(',').map(pattern).collect())))
    }

    fn parse_hashed(field: &str) -> Option<Self> {
        let (salt, hash) = field.strip_prefix("1|")?.split_once('|')?;
        let decode = |text| BASE64.decode(text).ok()?.try_into().ok();
        Some(Self(Form::Hashed { salt: decode(salt)?, hash: decode(hash)? }))
    }

    /// Whether a name, as [`lookup_name`](super::lookup_name) writes it, is meant.
    ///
    /// Patterns: one matches, and no negated one does.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Form::Hashed { salt, hash } => {
                // A key of any length fits HMAC, so this is never an error.
                Hmac::<Sha1>::new_from_slice(salt)
                    .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok())
            }
            Form::Patterns(patterns) => {
                let hit = |p: &&Pattern| glob_matches(&p.glob, name);
                !patterns.iter().filter(|p| p.negated).any(|p| hit(&p))
                    && patterns.iter().filter(|p| !p.negated).any(|p| hit(&p))
            }
        }
    }

    /// The same hosts, and every name that ends in `.` and one of them.
    #[must_use]
    pub(super) fn and_all_below(self) -> Self {
        let Form::Patterns(mut patterns) = self.0 else { return self };
        let below: Vec<Pattern> = patterns
            .iter()
            .filter(|p| !p.negated)
            .map(|p| Pattern { negated: false, glob: format!("*.{}", p.glob) })
            .collect();
        patterns.extend(below);
        Self(Form::Patterns(patterns))
    }
}

/// As the field of a known_hosts line.
impl fmt::Display for HostNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Hashed { salt, hash } => write!(f, "|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash)),
            Form::Patterns(patterns) => {
                for (n, pattern) in patterns.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    let mark = if pattern.negated { "!" } else { "" };
                    write!(f, "{comma}{mark}{}", pattern.glob)?;
                }
                Ok(())
            }
        }
    }
}
