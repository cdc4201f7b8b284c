//! Whom natssh believes, and what it writes down.

use super::sshd::{Sshd, host_key};
use crate::identity::testing::{ed25519, public_line, write};
use crate::known_hosts::{Dialect, KnownHosts};
use crate::session::NotOpened;
use crate::target::{Strict, Target};
use natssh_wire::FailureKind;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A target whose host nobody knows yet.
fn unknown(sshd: &Sshd, strict: Strict) -> Target {
    let mut target = sshd.target();
    target.trust.strict = strict;
    target.trust.user_files = vec![sshd.path("home/.ssh/known_hosts")];
    fs::create_dir_all(sshd.path("home")).unwrap();
    target
}

/// Lets ssh write the host down in a file.
fn written_by_ssh(sshd: &Sshd, file: &Path, options: &[&str]) -> String {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]);
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", file.display()));
    ssh.args(["-o", "UpdateHostKeys=no", "-p", &sshd.address().port().to_string(), "-i"])
        .arg(sshd.path("id"));
    for option in options {
        ssh.args(["-o", option]);
    }
    let output = ssh.args(["127.0.0.1", "true"]).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_new_key_is_written_down_as_ssh_does() {
    let Some(sshd) = Sshd::start("").await else { return };
    let target = unknown(&sshd, Strict::AcceptNew);
    let file = &target.trust.user_files[0];
    let session = sshd.open(&target).await.unwrap();
    let theirs = sshd.path("theirs");
    let said = written_by_ssh(&sshd, &theirs, &[]);
    assert_eq!(fs::read_to_string(file).unwrap(), fs::read_to_string(&theirs).unwrap());
    assert_eq!(session.warning(), Some(said.trim()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700));
    // It is believed from now on, by everybody, and written once.
    let mut strict = target.clone();
    strict.trust.strict = Strict::Yes;
    assert_eq!(sshd.open(&strict).await.unwrap().warning(), None);
    assert_eq!(written_by_ssh(&sshd, file, &["StrictHostKeyChecking=yes"]), "");
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_name_is_hashed_where_the_user_wants_it_and_ssh_finds_it() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = unknown(&sshd, Strict::AcceptNew);
    target.trust.hash = true;
    let file = target.trust.user_files[0].clone();
    // The last line of somebody who forgot to end it.
    fs::create_dir(file.parent().unwrap()).unwrap();
    write(&file, format!("other {}", public_line(&ed25519(9))));
    sshd.open(&target).await.unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().nth(1).unwrap();
    assert!(line.starts_with("|1|") && !line.contains("127.0.0.1"), "{text}");
    let known = KnownHosts::parse(&text, "known_hosts", Dialect::OpenSsh);
    assert_eq!(known.matching("127.0.0.1", target.port).count(), 1);
    assert_eq!(written_by_ssh(&sshd, &file, &["StrictHostKeyChecking=yes"]), "");
}

#[tokio::test]
async fn sessions_that_open_at_once_write_one_line() {
    let Some(sshd) = Sshd::start("").await else { return };
    let target = unknown(&sshd, Strict::AcceptNew);
    let (a, b, c, d) =
        tokio::join!(sshd.open(&target), sshd.open(&target), sshd.open(&target), sshd.open(&target));
    let warnings = [a, b, c, d].map(|session| session.unwrap().warning().is_some());
    assert_eq!(warnings.into_iter().filter(|warned| *warned).count(), 1);
    assert_eq!(fs::read_to_string(&target.trust.user_files[0]).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn an_alias_stands_for_name_and_port() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = unknown(&sshd, Strict::AcceptNew);
    target.trust.alias = Some("the-alias".into());
    sshd.open(&target).await.unwrap();
    let theirs = sshd.path("theirs");
    written_by_ssh(&sshd, &theirs, &["HostKeyAlias=the-alias"]);
    let ours = fs::read_to_string(&target.trust.user_files[0]).unwrap();
    assert_eq!(
        (ours.as_str(), ours.starts_with("the-alias ")),
        (fs::read_to_string(&theirs).unwrap().as_str(), true)
    );
}

#[tokio::test]
async fn an_unknown_key_is_refused_or_left_to_a_person() {
    let Some(sshd) = Sshd::start("").await else { return };
    let strict = unknown(&sshd, Strict::Yes);
    let Err(NotOpened::Failed(failure)) = sshd.open(&strict).await.map(drop) else {
        panic!("it was believed")
    };
    assert_eq!(failure.kind, FailureKind::HostKey);
    let ask = unknown(&sshd, Strict::Ask);
    let Err(NotOpened::RealSsh(reason)) = sshd.open(&ask).await.map(drop) else { panic!("it was believed") };
    assert_eq!(reason, "the host key of 127.0.0.1 is not known, and ssh asks");
    assert!(!strict.trust.user_files[0].exists());
}

#[tokio::test]
async fn a_changed_key_is_never_believed() {
    let Some(sshd) = Sshd::start("").await else { return };
    for strict in [Strict::Yes, Strict::Ask, Strict::AcceptNew, Strict::No] {
        let mut target = sshd.target();
        target.trust.strict = strict;
        let line = format!("[127.0.0.1]:{} {}\n", target.port, public_line(&ed25519(9)));
        write(&target.trust.user_files[0], &line);
        match (strict, sshd.open(&target).await.map(drop)) {
            // ssh goes on, without passwords and forwardings.
            (Strict::No, Err(NotOpened::RealSsh(reason))) => {
                assert!(reason.contains("has changed"), "{reason}");
            }
            (_, Err(NotOpened::Failed(failure))) => {
                assert_eq!(failure.kind, FailureKind::HostKey);
                assert!(failure.hint.unwrap().contains("ssh-keygen -R"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_to_string(&target.trust.user_files[0]).unwrap(), line);
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_whatever_the_user_says() {
    let Some(sshd) = Sshd::start("").await else { return };
    let target = unknown(&sshd, Strict::No);
    fs::create_dir_all(target.trust.user_files[0].parent().unwrap()).unwrap();
    write(&target.trust.user_files[0], format!("@revoked * {}\n", public_line(&host_key())));
    let Err(NotOpened::Failed(failure)) = sshd.open(&target).await.map(drop) else {
        panic!("it was believed")
    };
    assert_eq!(failure.kind, FailureKind::HostKey);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_said_and_the_session_opens() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = unknown(&sshd, Strict::AcceptNew);
    target.trust.user_files = vec![sshd.path("no/such/folder/known_hosts")];
    let session = sshd.open(&target).await.unwrap();
    assert!(session.warning().unwrap().starts_with("Failed to add the host to the list of known hosts"));
    target.trust.user_files = vec!["/dev/null".into()];
    assert!(sshd.open(&target).await.is_ok());
}
