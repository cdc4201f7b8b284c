//! How much ssh says: `-q`, `-v` and `LogLevel`, in the order in which they stand.

use super::getopt::Given;

/// `LogLevel`, the quietest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Quiet,
    /// What ends the call.
    Fatal,
    /// What went wrong.
    Error,
    /// ssh's default.
    #[default]
    Info,
    /// A little more.
    Verbose,
    /// `-v`.
    Debug1,
    /// `-vv`.
    Debug2,
    /// `-vvv`.
    Debug3,
}

impl LogLevel {
    /// Its name in ssh_config, in whatever case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            // The second is what Debian calls it.
            "quiet" | "silent" => Self::Quiet,
            "fatal" => Self::Fatal,
            "error" => Self::Error,
            "info" => Self::Info,
            "verbose" => Self::Verbose,
            "debug" | "debug1" => Self::Debug1,
            "debug2" => Self::Debug2,
            "debug3" => Self::Debug3,
            _ => return None,
        })
    }

    /// Which of `debug1:` to `debug3:` are said: up to this one, 0 for none.
    #[must_use]
    pub fn debug(self) -> u8 {
        match self {
            Self::Debug1 => 1,
            Self::Debug2 => 2,
            Self::Debug3 => 3,
            _ => 0,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Quiet => Self::Fatal,
            Self::Fatal => Self::Error,
            Self::Error => Self::Info,
            Self::Info => Self::Verbose,
            Self::Verbose => Self::Debug1,
            Self::Debug1 => Self::Debug2,
            Self::Debug2 | Self::Debug3 => Self::Debug3,
        }
    }
}

/// What options say together. The first `-v` sets a level and each further one raises it, `-q` sets it, and
/// `-o LogLevel` only where none of these came before.
pub(super) fn of<'g>(options: impl Iterator<Item = &'g Given>) -> Option<LogLevel> {
    let mut level = None;
    let mut verbose = false;
    for given in options {
        match given.letter {
            b'q' => level = Some(LogLevel::Quiet),
            b'v' if verbose => level = level.map(LogLevel::next),
            b'v' => (verbose, level) = (true, Some(LogLevel::Debug1)),
            b'o' if level.is_none() => {
                let setting = given.setting().filter(|setting| setting.is("loglevel"));
                let name = setting.as_ref().and_then(|setting| std::str::from_utf8(setting.first()?).ok());
                level = name.and_then(LogLevel::named);
            }
            _ => {}
        }
    }
    level
}
