//! What `ssh -G` printed, line by line: a keyword in lower case, a blank, the value.
//!
//! Pure. ssh quotes nothing: a value that holds a line break would print as another
//! setting. So a keyword that has one value and shows up twice is an answer that
//! nobody should act on.

use std::collections::BTreeMap;
use thiserror::Error;

/// The keywords that print a line for each of their values.
const REPEATED: [&str; 7] = [
    "certificatefile",
    "dynamicforward",
    "identityfile",
    "localforward",
    "remoteforward",
    "sendenv",
    "setenv",
];

/// An answer of `ssh -G`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Printed(BTreeMap<String, Vec<String>>);

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Unreadable {
    /// Paths may be any bytes.
    #[error("ssh -G printed bytes that are not UTF-8")]
    NotUtf8,
    /// Not a keyword and a value.
    #[error("ssh -G printed a line that is no setting")]
    NoSetting,
    /// Twice where once is all there is.
    #[error("ssh -G printed {0} twice")]
    Twice(String),
}

impl Printed {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is none, or not what a person wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)?;
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.split_terminator('\n') {
            // `proxyjump` of nothing and its like have no blank.
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            if keyword.is_empty() || !keyword.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(Unreadable::NoSetting);
            }
            let keyword = keyword.to_ascii_lowercase();
            let values = lines.entry(keyword).or_default();
            values.push(value.to_owned());
        }
        let twice = |(keyword, values): &(&String, &Vec<String>)| {
            values.len() > 1 && !REPEATED.contains(&keyword.as_str())
        };
        match lines.iter().find(twice) {
            Some((keyword, _)) => Err(Unreadable::Twice(keyword.clone())),
            None => Ok(Self(lines)),
        }
    }

    /// The value of a keyword that has one; none where ssh printed nothing for it.
    pub(super) fn one(&self, keyword: &str) -> Option<&str> {
        self.all(keyword).first().map(String::as_str)
    }

    /// All its values, in ssh's order.
    pub(super) fn all(&self, keyword: &str) -> &[String] {
        self.0.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// Every keyword that was printed, with its values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(keyword, values)| (keyword.as_str(), values.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_keep_their_blanks_and_their_order() {
        let printed = Printed::parse(
            b"identityfile ~/a b\nidentityfile c\nport 22\nproxyjump\ncanonicalizePermittedcnames none\n",
        )
        .unwrap();
        assert_eq!(printed.all("identityfile"), ["~/a b", "c"]);
        assert_eq!(printed.one("port"), Some("22"));
        assert_eq!(printed.one("proxyjump"), Some(""));
        assert_eq!(printed.one("canonicalizepermittedcnames"), Some("none"));
        assert_eq!(printed.one("user"), None);
    }

    #[test]
    fn a_value_with_a_line_break_cannot_pass_for_another_setting() {
        let smuggled = b"remotecommand a\nstricthostkeychecking false\nstricthostkeychecking true\n";
        assert_eq!(Printed::parse(smuggled), Err(Unreadable::Twice("stricthostkeychecking".into())));
        for line in ["\n", " a\n", "a-b c\n", "a\tb\n", "port 22\n\n"] {
            assert_eq!(Printed::parse(line.as_bytes()), Err(Unreadable::NoSetting), "{line:?}");
        }
        assert_eq!(Printed::parse(b"user \xff\n"), Err(Unreadable::NotUtf8));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(printed) = Printed::parse(&bytes) {
                prop_assert!(printed.iter().all(|(_, values)| !values.is_empty()));
            }
        }

        #[test]
        fn what_ssh_prints_reads_back(values in prop::collection::vec("[^\n]{0,20}", 1..5)) {
            let text: String = values.iter().map(|value| format!("setenv {value}\n")).collect();
            let printed = Printed::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(printed.all("setenv"), values);
        }
    }
}
