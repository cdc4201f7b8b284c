//! One `Host` block of an ssh_config, and how its words are written.
//!
//! Pure. ssh_config(5) has three levels of quoting: words in double quotes, `%`
//! tokens, and for ProxyCommand the shell's own rules.

use std::fmt;
use std::path::Path;

/// Comments, a `Host` line and its options. Without hosts it is a remark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) comments: Vec<String>,
    pub(super) hosts: Vec<String>,
    /// Keyword and arguments, already quoted.
    pub(super) options: Vec<(&'static str, String)>,
}

impl Block {
    /// Comments and nothing else.
    pub(super) fn remark(comments: Vec<String>) -> Self {
        Self { comments, ..Self::default() }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.comments.iter().flat_map(|comment| comment.lines()) {
            writeln!(f, "# {line}")?;
        }
        if !self.hosts.is_empty() {
            writeln!(f, "Host {}", self.hosts.join(" "))?;
            for (keyword, arguments) in &self.options {
                writeln!(f, "    {keyword} {arguments}")?;
            }
        }
        Ok(())
    }
}

/// A path as an argument: `%` doubled, in double quotes where a blank or a quote asks for them.
#[must_use]
pub fn path(path: &Path) -> String {
    quoted(path.to_string_lossy().replace('%', "%%"))
}

/// An argument in which `%` means itself, as in GlobalKnownHostsFile.
#[must_use]
pub fn quoted(text: String) -> String {
    if text.chars().all(|c| c.is_alphanumeric() || "/~._-+@,:=%".contains(c)) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A word of a ProxyCommand: `%` doubled for ssh, and in single quotes for the shell where it needs them.
pub(super) fn shell_word(word: &str) -> String {
    let word = word.replace('%', "%%");
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@,:=%".contains(c)) {
        return word;
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
