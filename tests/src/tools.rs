//! Programs of the system that a story needs.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Ends the test, visibly, where one of these programs is missing; under
/// `CI=true` that is a failure.
#[macro_export]
macro_rules! need {
    ($($program:literal),+) => {
        if $crate::tools::missing(&[$($program),+]) {
            return;
        }
    };
}

/// Whether one of them is missing, after having said so.
///
/// # Panics
/// When one is missing and `CI` is `true`.
#[must_use]
pub fn missing(programs: &[&str]) -> bool {
    let absent: Vec<_> = programs.iter().filter(|name| natssh_lab::tools::find(name).is_none()).collect();
    absent.iter().any(|name| skip(&format!("{name} is not installed")))
}

/// The project's folder. It may have moved since the test was built.
///
/// # Panics
/// When it is nowhere.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().expect("the crate lies in the workspace").to_owned()
}

/// A program of the project's own Python environment, else of the system; none
/// after having said that it is missing.
///
/// # Panics
/// When it is missing and `CI` is `true`.
#[must_use]
pub fn python_program(name: &str) -> Option<PathBuf> {
    let own = workspace().join(".venv/bin").join(name);
    let found = Some(own).filter(|path| path.is_file()).or_else(|| natssh_lab::tools::find(name));
    if found.is_none() {
        skip(&format!("{name} is not installed; type: make setup"));
    }
    found
}

/// Says that this test is skipped, and why; always true.
///
/// # Panics
/// When `CI` is `true`: there, a test that cannot run has failed.
pub fn skip(reason: &str) -> bool {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{reason}");
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    // Past `eprintln!`, whose words the test runner keeps to itself when nothing fails.
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}
