//! Words as a process is given them: any bytes but NUL, and not always UTF-8.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One word of an argument list, one side of an environment variable, or a path.
///
/// In JSON it is a string, and where its bytes are not UTF-8, `{"hex": "ff2d…"}`.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(Vec<u8>);

impl Word {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The word for a call of the system.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The text, where the bytes are UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Word {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<OsString> for Word {
    fn from(word: OsString) -> Self {
        Self(word.into_vec())
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_os_str(), f)
    }
}

#[derive(Serialize, Deserialize)]
struct Hex {
    hex: String,
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => to.serialize_str(text),
            None => Hex { hex: self.0.iter().map(|byte| format!("{byte:02x}")).collect() }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Hex(Hex),
        }
        let bytes = match Either::deserialize(from)? {
            Either::Text(text) => text.into_bytes(),
            Either::Hex(Hex { hex }) => {
                decode_hex(&hex).ok_or_else(|| de::Error::custom("hex wants pairs of 0-9a-f"))?
            }
        };
        if bytes.contains(&0) {
            return Err(de::Error::custom("no word holds a NUL"));
        }
        Ok(Self(bytes))
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_word_reads_back_as_it_was(bytes in prop::collection::vec(1u8.., 0..40)) {
            let word = Word::from(bytes);
            let json = serde_json::to_string(&word).unwrap();
            prop_assert_eq!(serde_json::from_str::<Word>(&json).unwrap(), word);
        }
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        for bad in [r#""a\u0000b""#, r#"{"hex":"00"}"#, r#"{"hex":"f"}"#, r#"{"hex":"zz"}"#, "7"] {
            assert!(serde_json::from_str::<Word>(bad).is_err(), "{bad}");
        }
    }
}
