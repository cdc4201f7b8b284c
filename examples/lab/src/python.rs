//! The Python that Ansible's modules run with on the nodes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::tools;

/// An interpreter that every node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// What to set `ansible_python_interpreter` to; none when the machine has
    /// no Python at all.
    pub interpreter: Option<PathBuf>,
    /// A folder that rooted nodes must be shown for it, because it may lie
    /// under one that is covered there.
    pub prefix: Option<PathBuf>,
}

/// The system's own interpreter if it has one, else the one in PATH, with the
/// folder that it lives in.
pub fn find() -> Python {
    let system = Path::new("/usr/bin/python3");
    if system.exists() {
        return Python { interpreter: Some(system.to_owned()), prefix: None };
    }
    let from_path = tools::find("python3").and_then(|python| base_of(&python));
    let Some((prefix, interpreter)) = from_path else {
        return Python::default();
    };
    Python { interpreter: Some(interpreter), prefix: Some(prefix) }
}

/// Asks the interpreter: what PATH names may be a version manager's wrapper
/// script, or belong to a virtual environment.
fn base_of(python: &Path) -> Option<(PathBuf, PathBuf)> {
    let question =
        "import sys; print(sys.base_prefix); print(f'python{sys.version_info[0]}.{sys.version_info[1]}')";
    let output = Command::new(python)
        .args(["-c", question])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let answer = String::from_utf8(output.stdout).ok()?;
    let mut lines = answer.lines();
    let prefix = PathBuf::from(lines.next()?);
    let interpreter = prefix.join("bin").join(lines.next()?);
    interpreter.exists().then_some((prefix, interpreter))
}
