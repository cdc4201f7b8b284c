//! From what `ssh -G` printed to whom to reach, as whom, whom to believe and what to run.
//!
//! Pure. An error is the reason for which the call is the real ssh's: lower case, no full stop.

use super::call::{Around, Call};
use super::environment;
use super::expand::{Inexpandable, Tokens};
use super::printed::Printed;
use super::terminal::{self, Asked};
use crate::target::{Algorithms, Proof, Purpose, Run, Strict, Target, Trust, Way, Wishes};
use natssh_wire::ssh_words::LogLevel;
use natssh_wire::word::Word;
use std::path::PathBuf;
use std::time::Duration;

/// `ControlPersist yes` has no end; the pool's own limits hold instead.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everything that a call's meaning follows from.
pub(super) struct Meaning<'m> {
    /// What ssh printed for it.
    pub(super) printed: &'m Printed,
    /// What the same ssh says unasked.
    pub(super) usual: &'m Printed,
    /// What the words say.
    pub(super) call: &'m Call,
    /// What the caller brings along.
    pub(super) around: &'m Around<'m>,
    /// What the tokens stand for.
    pub(super) tokens: Tokens,
}

/// The way that ssh itself would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnWay {
    /// Straight to the host.
    Straight,
    /// `ProxyJump`, as printed.
    Jump(String),
    /// `ProxyCommand`, as printed.
    Command(String),
}

/// Whom a call is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Whom {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
}

impl Whom {
    /// Reads `hostname`, `port` and `user`; ssh prints all three.
    pub(super) fn of(printed: &Printed, typed: &str) -> Result<Self, String> {
        let host =
            printed.one("hostname").filter(|host| !host.is_empty()).ok_or("ssh -G printed no host name")?;
        let port = printed.one("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let user = printed.one("user").filter(|user| !user.is_empty()).ok_or("ssh -G printed no login")?;
        Ok(Self {
            // ssh makes the name lower case, and to Teleport case matters.
            host: if host.eq_ignore_ascii_case(typed) { typed } else { host }.to_owned(),
            port: port.ok_or("ssh -G printed no port")?,
            user: user.to_owned(),
        })
    }
}

impl OwnWay {
    /// The way that was printed.
    pub(super) fn of(printed: &Printed) -> Self {
        match (printed.one("proxyjump"), printed.one("proxycommand")) {
            (Some(jump), _) if !jump.is_empty() => Self::Jump(jump.to_owned()),
            (_, Some(command)) if !command.is_empty() => Self::Command(command.to_owned()),
            _ => Self::Straight,
        }
    }
}

impl Meaning<'_> {
    /// Whom to reach that way, as whom, whom to believe.
    pub(super) fn target(&self, whom: Whom, way: Way) -> Result<Target, String> {
        Ok(Target {
            host: whom.host,
            typed: self.call.typed.clone(),
            port: whom.port,
            user: whom.user,
            // Where it matters, the table sends the call to the real ssh.
            bind_address: None,
            way,
            proof: self.proof()?,
            trust: self.trust()?,
            algorithms: self.algorithms(),
        })
    }

    /// What the call wants of its session.
    pub(super) fn wishes(&self) -> Result<Wishes, String> {
        let seconds =
            |keyword| self.printed.one(keyword).and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let positive = |keyword| seconds(keyword).filter(|time| !time.is_zero());
        let count = self.printed.one("serveralivecountmax").and_then(|count| count.parse().ok());
        let keep = match self.printed.one("controlpersist") {
            Some("yes" | "true") => Some(FOR_EVER),
            _ => positive("controlpersist").map(|keep| keep.min(FOR_EVER)),
        };
        let asked = terminal::asked(self.call, self.around, self.printed)?;
        let purpose = self.purpose();
        let run = match purpose {
            Some(_) => Run::default(),
            None => self.run()?,
        };
        Ok(Wishes {
            connect_timeout: positive("connecttimeout"),
            alive: positive("serveraliveinterval").zip(count.filter(|count: &u32| *count > 0)),
            keep,
            environment: environment::sent(
                self.around.environment(),
                self.printed.all("sendenv"),
                self.printed.all("setenv"),
            ),
            run,
            lacks_terminal: asked == Asked::Lacking,
            terminal: match asked {
                Asked::For(pty) => Some(pty),
                Asked::Lacking | Asked::No => None,
            },
            no_input: self.call.reads_nothing(self.printed) || purpose == Some(Purpose::Nothing),
            level: self.printed.one("loglevel").and_then(LogLevel::named).unwrap_or_default(),
        })
    }

    /// What the session is wanted for, where nothing is run on it.
    pub(super) fn purpose(&self) -> Option<Purpose> {
        match &self.call.forward {
            Some(node) => Some(Purpose::Forward(node.clone())),
            None if self.call.is_subsystem => None,
            None => (self.printed.one("sessiontype") == Some("none")).then_some(Purpose::Nothing),
        }
    }

    /// What is run, unless it wants what natssh has not.
    fn run(&self) -> Result<Run, String> {
        match (&self.call.command, self.printed.one("remotecommand").filter(|command| !command.is_empty())) {
            (Some(name), _) if self.is_subsystem() => match String::from_utf8(name.clone()) {
                Ok(name) => Ok(Run::Subsystem(name)),
                Err(_) => Err("the subsystem's name is not UTF-8".into()),
            },
            (Some(command), _) => Ok(Run::Command(command.clone())),
            (None, _) if self.is_subsystem() => Err("SessionType is subsystem, and none is named".into()),
            (None, Some(command)) => Ok(Run::Command(command.as_bytes().to_vec())),
            (None, None) => Ok(Run::Shell),
        }
    }

    /// `-s` came with the words, and is not among what is printed.
    fn is_subsystem(&self) -> bool {
        self.call.is_subsystem || self.printed.one("sessiontype") == Some("subsystem")
    }

    fn proof(&self) -> Result<Proof, String> {
        let files = |keyword, name: &str| {
            // At most one of them is none, and then there are no others.
            let written = self.printed.all(keyword).iter().filter(|file| !file.eq_ignore_ascii_case("none"));
            written.map(|file| self.expanded(file, name)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Proof {
            keys: files("identityfile", "IdentityFile")?,
            certificates: files("certificatefile", "CertificateFile")?,
            only_these: self.printed.one("identitiesonly") == Some("yes"),
            agent: self.agent()?,
            other_ways: self.other_ways(),
        })
    }

    /// What ssh would try where no key is accepted. Without a person to ask, it asks for no password.
    fn other_ways(&self) -> Vec<&'static str> {
        let is_on = |keyword| self.printed.one(keyword).is_none_or(|value| value != "no" && value != "false");
        let preferred = self.printed.one("preferredauthentications");
        let is_preferred = |way: &str| preferred.is_none_or(|list| list.split(',').any(|one| one == way));
        let asks = !matches!(self.printed.one("batchmode"), Some("yes" | "true"));
        let ways = [
            ("gssapi-with-mic", is_on("gssapiauthentication")),
            ("hostbased", is_on("hostbasedauthentication")),
            // By its older name before 8.7.
            (
                "keyboard-interactive",
                asks && is_on("kbdinteractiveauthentication") && is_on("challengeresponseauthentication"),
            ),
            ("password", asks && is_on("passwordauthentication")),
        ];
        ways.into_iter().filter(|(way, on)| *on && is_preferred(way)).map(|(way, _)| way).collect()
    }

    /// `main` in ssh.c, behind "optionally set the SSH_AUTHSOCKET_ENV_NAME variable".
    fn agent(&self) -> Result<Option<PathBuf>, String> {
        let socket = |name| {
            let value = self.around.variable(name).filter(|value| !value.as_bytes().is_empty());
            value.map(|value| PathBuf::from(self.around.directory().as_os_str()).join(value.as_os_str()))
        };
        let named = self.printed.one("identityagent").unwrap_or("SSH_AUTH_SOCK");
        Ok(match named {
            "SSH_AUTH_SOCK" => socket("SSH_AUTH_SOCK"),
            "none" => None,
            _ if named.contains('%') || named.contains("${") => {
                // Before 8.4 it is not expanded yet, later it is.
                return Err("IdentityAgent holds a token".into());
            }
            _ => match named.strip_prefix('$') {
                Some(name) => socket(name),
                None => Some(
                    self.around.path(&self.tokens.tilde(named).map_err(|why| said("IdentityAgent", &why))?),
                ),
            },
        })
    }

    fn trust(&self) -> Result<Trust, String> {
        let strict = match self.printed.one("stricthostkeychecking") {
            Some("true" | "yes") => Strict::Yes,
            Some("false" | "no" | "off") => Strict::No,
            Some("accept-new") => Strict::AcceptNew,
            Some("ask") | None => Strict::Ask,
            Some(_) => return Err("StrictHostKeyChecking is none of what it was".into()),
        };
        Ok(Trust {
            alias: self.tokens.alias.clone(),
            user_files: self.list("userknownhostsfile", "UserKnownHostsFile")?,
            global_files: self.list("globalknownhostsfile", "GlobalKnownHostsFile")?,
            command: self
                .printed
                .one("knownhostscommand")
                .filter(|command| *command != "none")
                .map(str::to_owned),
            strict,
            hash: self.printed.one("hashknownhosts") == Some("yes"),
        })
    }

    /// Several files on one line, parted by blanks, which files may hold too: only a list that reads one way is read.
    fn list(&self, keyword: &str, name: &str) -> Result<Vec<PathBuf>, String> {
        let Some(text) = self.printed.one(keyword).filter(|text| !text.is_empty() && *text != "none") else {
            return Ok(Vec::new());
        };
        let pieces: Vec<&str> = text.split(' ').collect();
        let is_whole = |piece: &&str| piece.starts_with('/') || piece.starts_with("~/");
        if pieces.len() > 1 && !pieces.iter().all(is_whole) {
            return Err(format!("{name} does not tell where one file ends and the next begins"));
        }
        if text.contains('%') || text.contains("${") {
            // UserKnownHostsFile is expanded from 8.4 on and not before; the other one never.
            return Err(format!("{name} holds a token"));
        }
        let file =
            |piece: &str| Ok(self.around.path(&self.tokens.tilde(piece).map_err(|why| said(name, &why))?));
        pieces.into_iter().map(file).collect()
    }

    fn expanded(&self, text: &str, name: &str) -> Result<PathBuf, String> {
        let variable = |variable: &str| self.around.variable(variable).and_then(Word::as_str);
        let path = self.tokens.path(text, variable).map_err(|why| said(name, &why))?;
        Ok(self.around.path(&path))
    }

    fn algorithms(&self) -> Algorithms {
        let set = |keyword| match self.printed.one(keyword) {
            Some(list) if self.usual.one(keyword) != Some(list) => {
                list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let newer_or_older = |newer, older| {
            let list: Vec<String> = set(newer);
            if list.is_empty() { set(older) } else { list }
        };
        Algorithms {
            key_exchange: set("kexalgorithms"),
            ciphers: set("ciphers"),
            macs: set("macs"),
            host_keys: set("hostkeyalgorithms"),
            public_keys: newer_or_older("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"),
            authorities: set("casignaturealgorithms"),
            least_rsa: match self.printed.one("requiredrsasize") {
                Some(bits) if self.usual.one("requiredrsasize") != Some(bits) => {
                    bits.parse().unwrap_or(u32::MAX)
                }
                _ => 0,
            },
        }
    }
}

fn said(name: &str, why: &Inexpandable) -> String {
    format!("{name} {why}")
}

#[cfg(test)]
mod tests;
