//! As whom this program was called: as natssh, or as ssh. Pure; decided before anything is parsed.
//!
//! It is ssh when it was called by that name, when its first word is one of
//! ssh's own, and behind `natssh ssh`. The words that are natssh's are few and
//! listed in docs/ssh.md, so that every other one can be a host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The words that no host can be named by without `natssh ssh` before it: the subcommands.
const RESERVED: [&str; 12] = [
    "broker",
    "completions",
    "config",
    "doctor",
    "identities",
    "proxy",
    "retry",
    "sessions",
    "ssh",
    "ssh-config",
    "status",
    "why",
];

/// Behind the name `ssh`, this first word means natssh after all. No ssh takes it for anything.
pub(crate) const NATSSH: &str = "--natssh";

/// Who is meant, with the words that are meant for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Personality<'w> {
    /// natssh, with its subcommand and what follows.
    Natssh(&'w [OsString]),
    /// ssh, with its options, the host and the command.
    Ssh(&'w [OsString]),
}

/// Decides by all words of the process, its own name the first.
pub(crate) fn of(all: &[OsString]) -> Personality<'_> {
    let (name, words) = all.split_first().map_or((OsStr::new(""), all), |(name, words)| (name, words));
    let first = words.first().map(OsString::as_os_str);
    if is_named_ssh(Path::new(name)) {
        return match first {
            Some(word) if word == NATSSH => Personality::Natssh(&words[1..]),
            _ => Personality::Ssh(words),
        };
    }
    match first {
        Some(word) if word == "ssh" => Personality::Ssh(&words[1..]),
        Some(word) if is_for_natssh(word) => Personality::Natssh(words),
        Some(_) => Personality::Ssh(words),
        None => Personality::Natssh(words),
    }
}

/// Whether a program of this path takes itself for ssh.
pub(crate) fn is_named_ssh(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "ssh")
}

fn is_for_natssh(word: &OsStr) -> bool {
    // `--` alone ends ssh's options; no option of ssh's is longer, and none is -h.
    let is_long = word.as_bytes().starts_with(b"--") && word.len() > 2;
    is_long || word == "-h" || RESERVED.iter().any(|reserved| word == *reserved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn ssh_is_meant_unless_a_word_of_natssh_comes_first() {
        for (text, ssh) in [
            ("natssh web true", "web true"),
            ("/opt/natssh -T web", "-T web"),
            ("natssh -V", "-V"),
            ("natssh -- status", "-- status"),
            ("natssh web status", "web status"),
            ("natssh -v status", "-v status"),
            ("natssh status.example.com", "status.example.com"),
            ("natssh me@status", "me@status"),
            ("natssh Status", "Status"),
            ("natssh ssh status", "status"),
            ("natssh ssh ssh", "ssh"),
            ("natssh ssh --help", "--help"),
            ("natssh ssh", ""),
            ("ssh", ""),
            ("/usr/local/bin/ssh status", "status"),
            ("ssh --version", "--version"),
        ] {
            assert_eq!(of(&words(text)), Personality::Ssh(&words(ssh)), "{text}");
        }
        for (text, natssh) in [
            ("natssh", ""),
            ("natssh status --json", "status --json"),
            ("natssh --help", "--help"),
            ("natssh -h", "-h"),
            ("natssh --version", "--version"),
            ("ssh --natssh status", "status"),
            ("sshd status", "status"),
        ] {
            assert_eq!(of(&words(text)), Personality::Natssh(&words(natssh)), "{text}");
        }
        assert_eq!(of(&[]), Personality::Natssh(&[]));
    }

    #[test]
    fn the_reserved_words_are_the_subcommands() {
        let mut subcommands: Vec<_> =
            Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        subcommands.sort();
        assert_eq!(subcommands, RESERVED);
    }

    #[test]
    fn the_documentation_lists_the_reserved_words() {
        let text = include_str!("../../docs/ssh.md");
        let listed = text.lines().find(|line| line.starts_with("`broker`")).expect("a line of them");
        let listed: Vec<_> = listed.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, RESERVED);
    }
}
