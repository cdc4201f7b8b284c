//! What is wrong with a configuration: all of it at once, each with its file and line.

use natssh_wire::{Failure, FailureKind};
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The line it is on, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// One sentence, lower case, no full stop.
    pub message: String,
}

/// Everything that is wrong with a file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints {
    file: PathBuf,
    list: Vec<Complaint>,
}

impl Complaints {
    /// Sorts complaints by line; none at all is no error.
    ///
    /// # Errors
    /// The complaints, if there is one.
    pub fn none_of(file: &Path, mut list: Vec<Complaint>) -> Result<(), Self> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort();
        list.dedup();
        Err(Self { file: file.to_owned(), list })
    }

    /// A complaint about the file as a whole.
    #[must_use]
    pub fn whole_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), list: vec![Complaint { line: 0, message: message.into() }] }
    }

    /// The same for one who asked for something else: the first complaint, and how many more there are.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let mut message = self.line_of(&self.list[0]);
        if self.list.len() > 1 {
            message = format!("{message} (and {} more)", self.list.len() - 1);
        }
        Failure::new(FailureKind::Config, message).hint("natssh config check")
    }

    fn line_of(&self, complaint: &Complaint) -> String {
        match complaint.line {
            0 => format!("{}: {}", self.file.display(), complaint.message),
            line => format!("{}:{line}: {}", self.file.display(), complaint.message),
        }
    }
}

/// One line each: `file:line: sentence`.
impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, complaint) in self.list.iter().enumerate() {
            let end = if n + 1 < self.list.len() { "\n" } else { "" };
            write!(f, "{}{end}", self.line_of(complaint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}
