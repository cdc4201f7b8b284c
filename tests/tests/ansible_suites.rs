//! Ansible's own integration suites, as they come with its source, with natssh as the ssh of the
//! ssh plugin, and over the collection's own plugin. The runner is Python, beside this folder: `tests/ansible_suites`.

use natssh_tests::{Running, programs, tools};
use std::process::Command;
use std::time::Duration;

/// The suites take minutes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// The runner's exit status where something is missing.
const NOT_HERE: i32 = 77;

/// One test, so that the runner alone says what runs beside what.
#[test]
fn ansibles_suites_pass_with_natssh_as_ssh_and_over_the_collection() {
    natssh_tests::need!("ssh", "scp", "sftp", "sudo", "useradd", "unshare");
    passes(&["ssh", "--way", "proxy"]);
    // Through the proxy a node is found whatever the port.
    passes(&["ssh", "--way", "direct", "--only", "wrong port"]);
    let over_the_collection = ["targets", "--connection", natssh_tests::collection::PLUGIN];
    passes(&[&over_the_collection[..], &["--way", "proxy"]].concat());
    // Behind a proxy it finds the proxy's address where it looks for its own.
    passes(&[&over_the_collection[..], &["--way", "direct", "--only", "delegate_to"]].concat());
}

/// Runs these words of the runner; what it leaves out is left out here too.
#[track_caller]
fn passes(words: &[&str]) {
    let Some(python) = tools::python_program("python") else { return };
    let mut command = Command::new(python);
    command
        .args(["-m", "ansible_suites"])
        .args(words)
        .env("PYTHONPATH", tools::workspace().join("tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BENCH_BIN", programs::folder());
    let said = Running::start(command).end_within(PATIENCE);
    if said.code == Some(NOT_HERE) {
        tools::skip(said.stderr.trim());
        return;
    }
    assert_eq!(said.code, Some(0), "{}{}", said.text(), said.stderr);
    for line in said.text().lines() {
        if let Some(reason) = line.strip_prefix("SKIPPED ") {
            tools::skip(reason);
        }
    }
}
