//! What natssh tells of a call beside the command's output, where `-v`, `-vv` or `-vvv` asks for it.
//!
//! No I/O. As with ssh, how much there is to read grows with the level: the first says what happens, the second on what
//! kind of session, the third by which settings.

use crate::session::Session;
use crate::target::{Pty, Target, Wishes};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// The session that a command runs on, as far as it is told of.
pub(super) struct On<'a> {
    /// The identification that the node sent.
    server: &'a str,
    /// The last round trip, if one was measured.
    round_trip: Option<Duration>,
    /// Channels that are open, this command's among them.
    channels: usize,
}

impl<'a> On<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Self { server: session.server(), round_trip: session.round_trip(), channels: session.channels() }
    }

    fn line(&self) -> String {
        let mut line = format!("natssh: the session's server is {}", self.server);
        if let Some(round_trip) = self.round_trip {
            let _ = write!(line, ", {:.1} ms away", round_trip.as_secs_f64() * 1e3);
        }
        let _ = write!(line, "; channels open on it: {}", self.channels);
        line
    }
}

/// The lines for that level, each with its own: `debug1:` to `debug3:`.
pub(super) fn lines(level: u8, target: &Target, wishes: &Wishes, on: &On<'_>) -> Vec<(u8, String)> {
    let mut lines = Vec::new();
    if level >= 1 {
        lines.push((1, format!("natssh: the command runs on a session to {}", target.peer())));
    }
    if level >= 2 {
        lines.push((2, on.line()));
    }
    if level >= 3 {
        lines.push((3, belief(target)));
        lines.push((3, wishes.terminal.as_ref().map_or_else(|| NO_TERMINAL.to_owned(), terminal)));
    }
    lines
}

const NO_TERMINAL: &str = "natssh: no terminal is asked for";

/// Where the node's key was looked up, and as whose.
fn belief(target: &Target) -> String {
    let name = target.trust.alias.as_ref().unwrap_or(&target.host);
    let files = target.trust.user_files.iter().chain(&target.trust.global_files).map(|file| file.as_path());
    let files: Vec<_> = files.map(Path::to_string_lossy).collect();
    format!("natssh: its host key was checked as that of {name}, by {}", files.join(" "))
}

fn terminal(pty: &Pty) -> String {
    let size = pty.like.size;
    format!("natssh: a terminal is asked for: {}, {} columns, {} rows", pty.name, size.columns, size.rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Algorithms, Need, Proof, Strict, Trust, Way};
    use natssh_wire::terminal::{Size, Terminal};

    fn target() -> Target {
        let trust = Trust {
            alias: None,
            user_files: vec!["/home/ann/known".into()],
            global_files: vec!["/etc/known".into()],
            command: None,
            strict: Strict::Yes,
            hash: false,
        };
        Target {
            host: "web-3".into(),
            typed: "web".into(),
            port: 22,
            user: "root".into(),
            bind_address: None,
            way: Way::Route,
            proof: Proof::default(),
            trust,
            algorithms: Algorithms::default(),
        }
    }

    const ON: On<'static> =
        On { server: "SSH-2.0-OpenSSH_9.2", round_trip: Some(Duration::from_micros(1_300)), channels: 2 };

    #[test]
    fn each_level_says_all_of_the_one_below_and_more() {
        let of = |level| lines(level, &target(), &Wishes::default(), &ON);
        assert_eq!(of(0), []);
        for (level, count) in [(1, 1), (2, 2), (3, 4)] {
            let said = of(level);
            assert_eq!(said.len(), count);
            assert_eq!(said.last().map(|(level, _)| *level), Some(level));
            assert_eq!(said[..], of(3)[..count]);
        }
    }

    #[test]
    fn the_session_is_told_of_as_far_as_it_is_known() {
        let line = "natssh: the session's server is SSH-2.0-OpenSSH_9.2, 1.3 ms away; channels open on it: 2";
        assert_eq!(ON.line(), line);
        assert!(!On { round_trip: None, ..ON }.line().contains("away"));
    }

    #[test]
    fn the_name_is_the_alias_where_there_is_one() {
        let mut target = target();
        let by = "by /home/ann/known /etc/known";
        assert_eq!(belief(&target), format!("natssh: its host key was checked as that of web-3, {by}"));
        target.trust.alias = Some("web".into());
        assert_eq!(belief(&target), format!("natssh: its host key was checked as that of web, {by}"));
    }

    #[test]
    fn a_terminal_is_told_of_by_name_and_size() {
        let like = Terminal { size: Size::default(), modes: Vec::new() };
        let pty = Pty { name: "xterm".into(), like, escape: None, need: Need::May };
        assert_eq!(terminal(&pty), "natssh: a terminal is asked for: xterm, 80 columns, 24 rows");
    }
}
