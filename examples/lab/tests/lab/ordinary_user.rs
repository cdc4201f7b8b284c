//! A lab for someone who is not root, tried by root too.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{PROGRAM, has_namespaces, output, stderr};

/// An account that exists only where the test's own passwd file is mounted.
const ACCOUNT: &str = "natssh-test:x:54321:54321::/nonexistent:/bin/sh\n";
const UID: u32 = 54321;

#[test]
fn an_ordinary_user_has_a_lab_too() {
    if !has_namespaces() {
        eprintln!("SKIPPED: only root can become another user; the other tests ran as one");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let passwd = fs::read_to_string("/etc/passwd").expect("readable") + ACCOUNT;
    fs::write(path("passwd"), passwd).expect("writable");
    // Where the program was built may be closed to others.
    fs::copy(PROGRAM, path("natssh-lab")).expect("a copy");
    fs::create_dir(path("own")).expect("writable");
    chown(path("own"), Some(UID), Some(UID)).expect("root may");

    let state = path("own/lab");
    let program = path("natssh-lab");
    let inner = format!(
        "{program} up --nodes 2 --state {state} && \
         eval \"$({program} env --state {state})\" && \
         ssh $LAB_SSH_OPTIONS worker 'id -un; pwd'; \
         {program} down --state {state}"
    );
    let outer = format!(
        "mount --bind {} /etc/passwd && \
         exec setpriv --reuid {UID} --regid {UID} --clear-groups --reset-env sh -c \"$0\"",
        path("passwd")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &outer, &inner]);
    let ran = output(command);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let words = stderr(&ran);
    assert!(ran.status.success(), "{said}{words}");
    assert!(said.contains("2 nodes, rootless"), "{said}{words}");
    assert!(said.contains(&format!("natssh-test\n{state}/nodes/worker/home\n")), "{said}{words}");
    assert!(!std::path::Path::new(&state).exists());
}
