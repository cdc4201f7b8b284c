//! What natssh says where ssh would say something: as loud as its words ask for, and where.

use crate::words::one_line;
use natssh_wire::Failure;
use natssh_wire::ssh_words::LogLevel;
use std::fs::File;
use std::io::Write;

/// How loud, and where to.
#[derive(Debug)]
pub(crate) struct Voice {
    /// What `-q`, `-v` and `-o LogLevel` say together.
    pub(crate) level: LogLevel,
    /// `-E`: the file that is appended to, instead of stderr.
    pub(crate) file: Option<File>,
}

/// As ssh's, unasked.
impl Default for Voice {
    fn default() -> Self {
        Self { level: LogLevel::Info, file: None }
    }
}

impl Voice {
    /// What went wrong, and what to type.
    pub(crate) fn complain(&self, failure: &Failure) {
        if self.level > LogLevel::Quiet {
            self.say(&format!("natssh: {}", one_line(&failure.to_string())));
        }
    }

    /// What ssh says however quiet it was told to be.
    pub(crate) fn always(&self, line: &str) {
        self.say(&one_line(line));
    }

    /// What ssh says of what went wrong, where its words are known.
    pub(crate) fn error(&self, line: &str) {
        if self.level >= LogLevel::Error {
            self.say(line);
        }
    }

    /// What ssh says unless it was told to be quieter.
    pub(crate) fn info(&self, line: &str) {
        if self.level >= LogLevel::Info {
            self.say(&one_line(line));
        }
    }

    /// What ssh says from `-v` on, or with `LogLevel VERBOSE`.
    pub(crate) fn verbose(&self, line: &str) {
        if self.level >= LogLevel::Verbose {
            self.say(&one_line(line));
        }
    }

    /// What ssh says from that many `-v` on.
    pub(crate) fn debug(&self, level: u8, line: &str) {
        if level <= self.level.debug() {
            self.say(&format!("debug{level}: {}", one_line(line)));
        }
    }

    /// A line that ends as ssh's do, so that it is one on a terminal in any state.
    fn say(&self, line: &str) {
        let line = format!("{line}\r\n");
        // eprintln! would panic where stderr is closed.
        let _ = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}
