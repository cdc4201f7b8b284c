//! The Ansible collection: its own tests, and a real Ansible that reaches the nodes with no ssh process at all.

use natssh_tests::{Running, Said, tools};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn its_own_tests_pass() {
    natssh_tests::need!("python3");
    let mut command = Command::new("python3");
    command
        .args(["-m", "unittest", "discover", "-s", "tests/unit", "-t", "."])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(collection());
    let Said { code, stderr, .. } = Running::start(command).end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("Ran 0 tests"), "{stderr}");
}

/// The collection's own folder.
fn collection() -> PathBuf {
    tools::workspace().join("ansible")
}
