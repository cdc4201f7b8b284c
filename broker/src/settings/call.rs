//! A call of ssh as far as the settings go: what `ssh -G` is asked, and what the words say beside it.

use super::printed::Printed;
use natssh_wire::NodeAddr;
use natssh_wire::exec::{ExecRequest, Terminals};
use natssh_wire::ssh_words::Invocation;
use natssh_wire::terminal::Terminal;
use natssh_wire::word::Word;
use std::path::PathBuf;
use std::sync::Arc;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The words for `ssh -G`, the host among them.
    pub(super) words: Vec<Word>,
    /// The host as it was typed.
    pub(super) typed: String,
    /// What is to be run; with `is_subsystem`, the name of a subsystem.
    pub(super) command: Option<Vec<u8>>,
    /// `-s`.
    pub(super) is_subsystem: bool,
    /// `-W`.
    pub(super) forward: Option<NodeAddr>,
    /// `-n`.
    pub(super) stdin_is_null: bool,
    /// The words name a login.
    pub(super) names_a_login: bool,
    /// The words name a port.
    pub(super) names_a_port: bool,
    /// The words name a way to the host, be it `none`.
    pub(super) names_a_way: bool,
    /// `-F`.
    pub(super) file: Option<Word>,
    /// Which of the caller's streams are terminals.
    pub(super) terminals: Terminals,
}

impl Call {
    /// What the words of a call say; none where they cannot be text.
    pub(super) fn of(invocation: &Invocation, terminals: Terminals) -> Option<Self> {
        let mut words = invocation.option_words();
        let command = invocation.command();
        if command.is_some() {
            // Whether something is run matters to ssh; what it is stays out of the list of processes.
            words.push("true".into());
        }
        let destination = invocation.destination();
        Some(Self {
            typed: String::from_utf8(destination.host.clone()).ok()?,
            is_subsystem: invocation.is_subsystem(),
            forward: invocation.stdio_forward(),
            stdin_is_null: invocation.stdin_is_null(),
            names_a_login: invocation.login().is_some(),
            names_a_port: invocation.has('p')
                || destination.port.is_some()
                || invocation.setting("port").is_some(),
            names_a_way: invocation.names_a_way(),
            file: invocation.config_file().cloned(),
            command,
            words,
            terminals,
        })
    }

    /// Whether nothing of standard input is wanted: by `-n`, which is not asked about, or by `StdinNull`.
    pub(super) fn reads_nothing(&self, printed: &Printed) -> bool {
        self.stdin_is_null || matches!(printed.one("stdinnull"), Some("yes" | "true"))
    }

    /// A hop of ProxyJump, as ssh itself would call it: of this call's own options only `-F` goes on.
    pub(super) fn to_hop(&self, hop: &Hop) -> Self {
        let mut words: Vec<Word> = Vec::new();
        let mut option = |letter: &str, value: &str| words.extend([letter.into(), value.into()]);
        hop.user.iter().for_each(|user| option("-l", user));
        hop.port.iter().for_each(|port| option("-p", &port.to_string()));
        words.extend(self.file.iter().flat_map(|file| ["-F".into(), file.clone()]));
        words.extend(["--".into(), hop.host.as_str().into()]);
        Self {
            words,
            typed: hop.host.clone(),
            command: None,
            is_subsystem: false,
            forward: None,
            stdin_is_null: true,
            names_a_login: hop.user.is_some(),
            names_a_port: hop.port.is_some(),
            names_a_way: false,
            file: self.file.clone(),
            terminals: Terminals::default(),
        }
    }
}

/// What a caller brings along.
pub(super) struct Around<'r> {
    request: &'r Arc<ExecRequest>,
}

impl<'r> Around<'r> {
    /// What came with a request.
    pub(super) fn of(request: &'r Arc<ExecRequest>) -> Self {
        Self { request }
    }

    /// The request, to keep.
    pub(super) fn request(&self) -> Arc<ExecRequest> {
        self.request.clone()
    }

    /// The folder.
    pub(super) fn directory(&self) -> &'r Word {
        &self.request.directory
    }

    /// The whole environment.
    pub(super) fn environment(&self) -> &'r [(Word, Word)] {
        &self.request.environment
    }

    /// A variable; as with getenv(3), the first of its name.
    pub(super) fn variable(&self, name: &str) -> Option<&'r Word> {
        let mut found =
            self.request.environment.iter().filter(|(known, _)| known.as_bytes() == name.as_bytes());
        found.next().map(|(_, value)| value)
    }

    /// The caller's terminal, where the caller knows how to be one.
    pub(super) fn terminal(&self) -> Option<&'r Terminal> {
        self.request.terminal.as_ref()
    }

    /// A path as the caller means it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(self.request.directory.as_os_str()).join(path)
    }
}

/// One host of ProxyJump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Hop {
    /// Reads what `ssh -G` prints for ProxyJump: `[user@]host[:port]`, the first hop first. None where it is no such list.
    pub(super) fn list(text: &str) -> Option<Vec<Self>> {
        text.split(',').map(|hop| Self::parse(hop.strip_prefix("ssh://").unwrap_or(hop))).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        // A login may hold `@` itself (`parse_user_host_port` in misc.c).
        let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port
            .map(|port| port.parse().ok().filter(|port| *port > 0))
            .map_or(Some(None), |p: Option<u16>| p.map(Some))?;
        let plain = |word: &str| !word.is_empty() && !word.starts_with('-');
        (plain(host) && user.is_none_or(plain)).then(|| Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hop(user: Option<&str>, host: &str, port: Option<u16>) -> Hop {
        Hop { user: user.map(Into::into), host: host.into(), port }
    }

    #[test]
    fn hops_are_read_as_ssh_prints_them() {
        assert_eq!(Hop::list("bastion"), Some(vec![hop(None, "bastion", None)]));
        assert_eq!(
            Hop::list("a@b@first:2222,u@[::1]:99,[fe80::1],ssh://x@last:7"),
            Some(vec![
                hop(Some("a@b"), "first", Some(2222)),
                hop(Some("u"), "::1", Some(99)),
                hop(None, "fe80::1", None),
                hop(Some("x"), "last", Some(7)),
            ])
        );
        for bad in [
            "",
            "a,,b",
            "@host",
            "host:",
            "host:0",
            "host:99999",
            "-oProxyCommand=x",
            "-l@host",
            "[::1",
            "[::1]x",
        ] {
            assert_eq!(Hop::list(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_or_refused(text in "[a-z@:,\\[\\]0-9-]{0,30}") {
            for hop in Hop::list(&text).into_iter().flatten() {
                prop_assert!(!hop.host.is_empty() && !hop.host.starts_with('-'));
            }
        }
    }
}
