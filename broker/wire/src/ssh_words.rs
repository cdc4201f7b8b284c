//! The words of a call of ssh, read as OpenSSH reads them.
//!
//! Pure: no I/O, no configuration. The shim reads them to know whether it stands
//! where ssh stood and whether the words alone demand the real ssh; the broker,
//! to know what to ask `ssh -G` and what to run. What an option's value means is
//! left to `ssh -G`: here is only told where each word belongs, by the rules of
//! `main` in ssh.c of OpenSSH 10.5.

mod control;
mod demand;
mod destination;
mod forward;
mod getopt;
mod level;
mod setting;

#[cfg(test)]
mod tests;

pub use control::Control;
pub use demand::{Demand, Tunnel};
pub use destination::Destination;
pub use level::LogLevel;
pub use setting::Setting;

use crate::NodeAddr;
use crate::word::Word;
use getopt::Given;
use std::fmt;

/// A call of ssh that names a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The options that stand before the host, and those behind it, in order.
    before: Vec<Given>,
    after: Vec<Given>,
    destination: Destination,
    command: Vec<Word>,
}

/// Why words are no call that natssh could look at: the real ssh answers them by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCall {
    /// `-V` or `-Q`: ssh prints something and leaves, whatever follows.
    Prints(char),
    /// `-1`, the protocol that is gone.
    OldProtocol,
    /// A letter that is no option.
    UnknownOption(char),
    /// An option at the end without its value.
    MissingValue(char),
    /// No host is named.
    NoHost,
    /// `@host`, or a URL that is none of ssh's.
    BadDestination,
    /// A host name with something in it that a shell could take for a command.
    BadHost,
    /// The same for a login.
    BadLogin,
    /// `-s` without the name of a subsystem.
    NoSubsystem,
}

/// Lower case and without a full stop: a reason to print.
impl fmt::Display for NoCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prints(letter) => write!(f, "-{letter} prints and leaves"),
            Self::OldProtocol => f.write_str("-1 asks for version 1 of the protocol"),
            Self::UnknownOption(letter) => write!(f, "-{} is an unknown option", letter.escape_default()),
            Self::MissingValue(letter) => write!(f, "-{letter} has no value"),
            Self::NoHost => f.write_str("no host is named"),
            Self::BadDestination => f.write_str("the destination is none"),
            Self::BadHost => f.write_str("the host name holds what ssh refuses"),
            Self::BadLogin => f.write_str("the login holds what ssh refuses"),
            Self::NoSubsystem => f.write_str("-s has no subsystem"),
        }
    }
}

impl Invocation {
    /// Reads all words behind `ssh`.
    ///
    /// # Errors
    /// Why they are no call.
    pub fn parse(words: &[Word]) -> Result<Self, NoCall> {
        let mut before = Vec::new();
        let host = getopt::scan(words, 0, &mut before)?;
        let word = words.get(host).ok_or(NoCall::NoHost)?;
        let destination = Destination::parse(word)?;
        // As ssh.c has it: also a `--` that was an option's value.
        let terminated = host > 0 && words[host - 1].as_bytes() == b"--";
        let mut after = Vec::new();
        let command = match terminated {
            true => host + 1,
            false => getopt::scan(words, host + 1, &mut after)?,
        };
        let call = Self { before, after, destination, command: words[command..].to_vec() };
        if !destination::is_host(call.host()) {
            return Err(NoCall::BadHost);
        }
        if !call.login().is_none_or(|login| destination::is_login(&login)) {
            return Err(NoCall::BadLogin);
        }
        match call.is_subsystem() && call.command.is_empty() {
            true => Err(NoCall::NoSubsystem),
            false => Ok(call),
        }
    }

    /// The word that names the host, in its parts.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The host as it was typed.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        &self.destination.host
    }

    /// The login that the words name: the first of `-l`, `-o User` and the destination's own.
    #[must_use]
    pub fn login(&self) -> Option<Vec<u8>> {
        let said = |given: &Given| match given.letter {
            b'l' => given.value.as_ref().map(|word| word.as_bytes().to_vec()),
            b'o' => given.setting().filter(|setting| setting.is("user"))?.first().map(<[u8]>::to_vec),
            _ => None,
        };
        let login = self.before.iter().find_map(said);
        login.or_else(|| self.destination.login.clone()).or_else(|| self.after.iter().find_map(said))
    }

    /// What is given to `ssh -G` for the settings: the host and every option that has to do with settings, each in
    /// two words, in the order in which they were given.
    ///
    /// The command is left out, and so is what only says how the call itself runs: `-E -G -O -f -n -s`.
    #[must_use]
    pub fn option_words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        self.before.iter().for_each(|given| given.write_to(&mut words));
        let host = &self.destination.word;
        if host.as_bytes().starts_with(b"-") {
            // It came behind a `--`, so no option follows.
            words.push("--".into());
        }
        words.push(host.clone());
        self.after.iter().for_each(|given| given.write_to(&mut words));
        words
    }

    /// What is to be run: the words joined by blanks, as ssh sends them; with `-s`, the name of a subsystem.
    ///
    /// None where there is nothing, be it in words of no length: ssh asks for a shell then.
    #[must_use]
    pub fn command(&self) -> Option<Vec<u8>> {
        let words: Vec<&[u8]> = self.command.iter().map(Word::as_bytes).collect();
        Some(words.join(&b' ')).filter(|command| !command.is_empty())
    }

    /// `-s`: the command names a subsystem.
    #[must_use]
    pub fn is_subsystem(&self) -> bool {
        self.has('s')
    }

    /// `-n`, and `-f`, which implies it: standard input is /dev/null.
    #[must_use]
    pub fn stdin_is_null(&self) -> bool {
        self.has('n') || self.has('f')
    }

    /// `-W`: where the node is to connect standard input and output to; none without it, and where natssh does not take
    /// what it says.
    #[must_use]
    pub fn stdio_forward(&self) -> Option<NodeAddr> {
        forward::target(self.value('W')?.as_bytes())
    }

    /// What `-O` asks for, where natssh answers that; none without it, and where only a master of ssh's can.
    #[must_use]
    pub fn control(&self) -> Option<Control> {
        control::of(self)
    }

    /// `-E`: the file to which messages are appended, instead of standard error.
    #[must_use]
    pub fn log_file(&self) -> Option<&Word> {
        // The last one holds: ssh opens it when it has read all words.
        self.given().filter(|given| given.letter == b'E').last().and_then(|given| given.value.as_ref())
    }

    /// `-F`: the file that is read instead of the user's and the system's.
    #[must_use]
    pub fn config_file(&self) -> Option<&Word> {
        // The last one holds, as with `-E`.
        self.given().filter(|given| given.letter == b'F').last().and_then(|given| given.value.as_ref())
    }

    /// What `-q`, `-v` and `-o LogLevel` say together; none where they say nothing.
    #[must_use]
    pub fn log_level(&self) -> Option<LogLevel> {
        level::of(self.given())
    }

    /// The first `-o` of this keyword, in whatever case.
    ///
    /// The first is the one that holds, for every keyword that does not collect.
    #[must_use]
    pub fn setting(&self, keyword: &str) -> Option<Setting> {
        self.given().filter_map(Given::setting).find(|setting| setting.is(keyword))
    }

    /// Whether the caller names a way to the host: `-J`, `-o ProxyJump` or `-o ProxyCommand`, be it `none`.
    #[must_use]
    pub fn names_a_way(&self) -> bool {
        self.has('J') || self.setting("proxyjump").is_some() || self.setting("proxycommand").is_some()
    }

    /// Why the words alone send the call to the real ssh; none where they do not.
    #[must_use]
    pub fn demands_real_ssh(&self) -> Option<Demand> {
        demand::of(self)
    }

    /// Whether this option was given.
    #[must_use]
    pub fn has(&self, letter: char) -> bool {
        self.count(letter) > 0
    }

    /// How many times it was given, as with `-t`.
    #[must_use]
    pub fn count(&self, letter: char) -> usize {
        self.given().filter(|given| char::from(given.letter) == letter).count()
    }

    /// Its first value, as with `-O` and `-W`.
    #[must_use]
    pub fn value(&self, letter: char) -> Option<&Word> {
        self.given().find(|given| char::from(given.letter) == letter).and_then(|given| given.value.as_ref())
    }

    fn given(&self) -> impl Iterator<Item = &Given> {
        self.before.iter().chain(&self.after)
    }
}
