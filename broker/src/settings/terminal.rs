//! Whether a call asks its node for a terminal, and for which: `main` in ssh.c, from "Allocate a tty by default" on.
//!
//! Pure. An error is the reason for which the call is the real ssh's.

use super::call::{Around, Call};
use super::printed::Printed;
use crate::target::{Need, Pty};
use natssh_wire::word::Word;

/// What becomes of the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// None is asked for.
    No,
    /// One would have been, had there been one here, and ssh says so.
    Lacking,
    /// This one is.
    For(Pty),
}

/// What a call asks for, by its words and by what ssh printed for it.
pub(super) fn asked(call: &Call, around: &Around<'_>, printed: &Printed) -> Result<Asked, String> {
    let request = printed.one("requesttty");
    let is_forced = request == Some("force");
    let need = if is_forced || matches!(request, Some("yes" | "true")) { Need::Must } else { Need::May };
    let has_command =
        call.command.is_some() || printed.one("remotecommand").is_some_and(|command| !command.is_empty());
    let is_off = matches!(request, Some("no" | "false")) || printed.one("sessiontype") == Some("none");
    if is_off || (has_command && need == Need::May) {
        return Ok(Asked::No);
    }
    if !is_forced && (!call.terminals.stdin || call.reads_nothing(printed)) {
        return Ok(Asked::Lacking);
    }
    let like = around.terminal().ok_or("whoever called has no terminal to give")?.clone();
    let name = name(around, printed).map_err(|()| "TERM is not UTF-8")?;
    let escape = match printed.one("escapechar") {
        None => Some(b'~'),
        Some("none") => None,
        Some(shown) => Some(unvis(shown).ok_or("EscapeChar is no character that natssh can read")?),
    };
    Ok(Asked::For(Pty { name, like, escape, need }))
}

/// `TERM` of SetEnv unless it is empty, else the caller's.
fn name(around: &Around<'_>, printed: &Printed) -> Result<String, ()> {
    let set = printed.all("setenv").iter().find_map(|line| line.strip_prefix("TERM="));
    if let Some(name) = set.filter(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let name = around.variable("TERM").map_or(Some(""), Word::as_str);
    name.map(str::to_owned).ok_or(())
}

/// The byte that vis(3) shows so, with `VIS_WHITE`, as ssh prints it.
fn unvis(shown: &str) -> Option<u8> {
    let control = |byte: u8| if byte == b'?' { 0x7f } else { byte & 0x1f };
    match *shown.as_bytes() {
        [byte] | [b'\\', byte @ b'\\'] => Some(byte),
        [b'\\', b'^', byte] => Some(control(byte)),
        [b'\\', b'M', b'-', byte] => Some(byte | 0x80),
        [b'\\', b'M', b'^', byte] => Some(control(byte) | 0x80),
        [b'\\', ..] => u8::from_str_radix(&shown[1..], 8).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use natssh_wire::exec::{ExecRequest, Terminals};
    use natssh_wire::ssh_words::Invocation;
    use natssh_wire::terminal::{Size, Terminal};
    use std::sync::Arc;

    const AT_A_TERMINAL: Terminals = Terminals { stdin: true, stdout: true, stderr: true };

    fn printed(text: &str) -> Printed {
        Printed::parse(text.as_bytes()).unwrap()
    }

    fn asked_by(words: &str, terminals: Terminals, lines: &str) -> Result<Asked, String> {
        let request = ExecRequest {
            environment: vec![("TERM".into(), "vt100".into())],
            terminal: Some(Terminal { size: Size { columns: 10, ..Size::default() }, modes: vec![(1, 3)] }),
            ..ExecRequest::default()
        };
        let words: Vec<Word> = words.split(' ').map(Word::from).collect();
        let call = Call::of(&Invocation::parse(&words).unwrap(), terminals).unwrap();
        asked(&call, &Around::of(&Arc::new(request)), &printed(lines))
    }

    fn pty(need: Need) -> Asked {
        let like = Terminal { size: Size { columns: 10, ..Size::default() }, modes: vec![(1, 3)] };
        Asked::For(Pty { name: "vt100".into(), like, escape: Some(b'~'), need })
    }

    /// ssh.c, read as a table; `ssh -G` has made one setting of `-t`, `-tt`, `-T` and RequestTTY.
    #[test]
    fn a_terminal_is_asked_for_when_ssh_would() {
        let nowhere = Terminals::default();
        for (words, at, setting, expected) in [
            ("web", AT_A_TERMINAL, "auto", pty(Need::May)),
            ("web", nowhere, "auto", Asked::Lacking),
            ("-n web", AT_A_TERMINAL, "auto", Asked::Lacking),
            ("web true", AT_A_TERMINAL, "auto", Asked::No),
            ("web true", nowhere, "auto", Asked::No),
            ("web", AT_A_TERMINAL, "false", Asked::No),
            ("web", nowhere, "false", Asked::No),
            ("web true", AT_A_TERMINAL, "true", pty(Need::Must)),
            ("web true", nowhere, "true", Asked::Lacking),
            ("-n web true", AT_A_TERMINAL, "true", Asked::Lacking),
            ("web", AT_A_TERMINAL, "true", pty(Need::Must)),
            ("web true", nowhere, "force", pty(Need::Must)),
            ("-n web true", nowhere, "force", pty(Need::Must)),
            ("-s web sftp", AT_A_TERMINAL, "auto", Asked::No),
            ("-s web sftp", AT_A_TERMINAL, "true", pty(Need::Must)),
        ] {
            let lines = format!("requesttty {setting}\n");
            assert_eq!(asked_by(words, at, &lines), Ok(expected), "{words} {setting} {at:?}");
        }
        let remote = "requesttty auto\nremotecommand top\n";
        assert_eq!(asked_by("web", AT_A_TERMINAL, remote), Ok(Asked::No));
        let none = "requesttty force\nsessiontype none\n";
        assert_eq!(asked_by("web", AT_A_TERMINAL, none), Ok(Asked::No));
    }

    #[test]
    fn a_client_that_cannot_be_a_terminal_is_not_given_one() {
        let call = Call::of(&Invocation::parse(&["web".into()]).unwrap(), AT_A_TERMINAL).unwrap();
        let request = Arc::new(ExecRequest::default());
        assert!(asked(&call, &Around::of(&request), &printed("requesttty auto\n")).is_err());
    }

    #[test]
    fn the_terminal_is_called_what_set_env_says_and_else_as_here() {
        let name = |lines: &str| match asked_by("web", AT_A_TERMINAL, lines) {
            Ok(Asked::For(pty)) => pty.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name("setenv A=b\nsetenv TERM=dumb\n"), "dumb");
        assert_eq!(name("setenv TERM=\n"), "vt100");
    }

    /// What ssh 9.2 prints for `-e` with these.
    #[test]
    fn the_escape_character_is_read_as_ssh_prints_it() {
        let escape = |shown: &str| match asked_by("web", AT_A_TERMINAL, &format!("escapechar {shown}\n")) {
            Ok(Asked::For(pty)) => Ok(pty.escape),
            Ok(other) => panic!("{other:?}"),
            Err(reason) => Err(reason),
        };
        for (shown, byte) in [
            ("~", Some(b'~')),
            ("none", None),
            ("x", Some(b'x')),
            ("\\^A", Some(1)),
            ("\\^[", Some(27)),
            ("\\^?", Some(127)),
            ("\\\\", Some(b'\\')),
            ("\\040", Some(b' ')),
            ("\\M-a", Some(0xe1)),
            ("\\M^A", Some(0x81)),
            ("\\240", Some(0xa0)),
        ] {
            assert_eq!(escape(shown), Ok(byte), "{shown}");
        }
        for odd in ["xy", "\\999", ""] {
            assert!(escape(odd).is_err(), "{odd:?}");
        }
    }
}
