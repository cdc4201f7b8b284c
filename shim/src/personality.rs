//! As whom this program was called: as natssh, or as ssh. Pure; decided before anything is parsed.
//!
//! It is ssh when it was called by that name, when its first word is one of
//! ssh's own, and behind `natssh ssh`. The words that are natssh's are few and
//! listed in docs/ssh.md, so that every other one can be a host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The words that no host can be named by without `natssh ssh` before it: the subcommands.
const RESERVED: [&str; 14] = [
    "broker",
    "completions",
    "config",
    "doctor",
    "identities",
    "proxy",
    "retry",
    "scp",
    "sessions",
    "sftp",
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
    /// One of ssh's tools, which is to start natssh where it would start ssh, with its own words.
    Tool(&'static str, &'w [OsString]),
}

/// Of OpenSSH's tools, those that start an ssh and can be told which.
const TOOLS: [&str; 2] = ["scp", "sftp"];

/// Decides by all words of the process, its own name the first.
pub(crate) fn of(all: &[OsString]) -> Personality<'_> {
    let (name, words) = all.split_first().map_or((OsStr::new(""), all), |(name, words)| (name, words));
    let first = words.first().map(OsString::as_os_str);
    if is_named_ssh(Path::new(name)) {
        return match first {
            Some(word) if word == NATSSH => of_natssh(&words[1..]),
            _ => Personality::Ssh(words),
        };
    }
    match first {
        Some(word) if word == "ssh" => Personality::Ssh(&words[1..]),
        Some(word) if is_for_natssh(word) => of_natssh(words),
        Some(_) => Personality::Ssh(words),
        None => Personality::Natssh(words),
    }
}

/// By the first word, a subcommand. Those of tools are not looked at: every word of theirs is passed on.
fn of_natssh(words: &[OsString]) -> Personality<'_> {
    let tool = TOOLS.into_iter().find(|tool| words.first().is_some_and(|word| word == *tool));
    tool.map_or(Personality::Natssh(words), |tool| Personality::Tool(tool, &words[1..]))
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
        for (text, tool, rest) in [
            ("natssh scp -- a web:", "scp", "-- a web:"),
            ("natssh sftp --help", "sftp", "--help"),
            ("ssh --natssh sftp web", "sftp", "web"),
            ("natssh scp", "scp", ""),
        ] {
            assert_eq!(of(&words(text)), Personality::Tool(tool, &words(rest)), "{text}");
        }
        assert_eq!(of(&words("natssh ssh scp")), Personality::Ssh(&words("scp")));
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
