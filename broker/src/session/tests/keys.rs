//! Which keys are shown, in which order, and what becomes of refusals.

use super::agent::Agent;
use super::sshd::{Sshd, user_key};
use crate::identity::testing::{ecdsa, ed25519, pem, public_line, ssh_keygen, write};
use crate::session::{NotOpened, Session, proof};
use crate::target::{Strict, Target};
use natssh_wire::FailureKind;
use ssh_key::{HashAlg, PrivateKey};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Writes a key and its public half.
fn write_key(path: &Path, key: &PrivateKey) {
    write(path, pem(key));
    write(&path.with_extension("pub"), public_line(key));
}

/// A certificate for the key in a file, beside it.
fn certify(path: &Path, authority: &Path) {
    let public = path.with_extension("pub");
    let words = ["-q", "-s", authority.to_str().unwrap(), "-I", "id", "-n", "root", public.to_str().unwrap()];
    assert_eq!(ssh_keygen(words), "");
}

/// What natssh shows: fingerprints, and whether it is a certificate.
async fn ours(target: &Target) -> Vec<String> {
    let proofs = proof::read(target).await;
    let line = |offer: &crate::ssh::KeyOffer| {
        let kind = if offer.certificate.is_some() { " certificate" } else { "" };
        format!("{}{kind}", offer.key.fingerprint(HashAlg::Sha256))
    };
    proofs.offers.iter().map(line).collect()
}

/// What ssh says it will show.
fn theirs(sshd: &Sshd, target: &Target) -> Vec<String> {
    let mut ssh = Command::new("ssh");
    ssh.args(["-v", "-F", "none", "-o", "BatchMode=yes", "-o", "PasswordAuthentication=no"]);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-p", &sshd.address().port().to_string(), "-l", "nobody-of-that-name"]);
    for key in &target.proof.keys {
        ssh.arg("-o").arg(format!("IdentityFile={}", key.display()));
    }
    for certificate in &target.proof.certificates {
        ssh.arg("-o").arg(format!("CertificateFile={}", certificate.display()));
    }
    if target.proof.only_these {
        ssh.args(["-o", "IdentitiesOnly=yes"]);
    }
    let agent = target.proof.agent.clone().unwrap_or_default();
    let output = ssh.args(["127.0.0.1", "true"]).env("SSH_AUTH_SOCK", agent).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let attempts = said.lines().filter_map(|line| line.strip_prefix("debug1: Will attempt key: "));
    attempts
        .filter_map(|line| {
            let print = line.split(' ').find(|word| word.starts_with("SHA256:"))?;
            let kind = if line.contains("-CERT ") { " certificate" } else { "" };
            Some(format!("{print}{kind}"))
        })
        .collect()
}

#[tokio::test]
async fn keys_are_shown_in_the_order_of_ssh() {
    let Some(sshd) = Sshd::start("").await else { return };
    let agent = Agent::start(&sshd.path(""));
    let authority = sshd.path("authority");
    write_key(&authority, &ed25519(50));
    let key = |seed| if seed % 2 == 0 { ed25519(seed) } else { ecdsa(seed) };
    let file = |name: &str| sshd.path(name);
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5), ("f", 6), ("g", 7)] {
        write_key(&file(name), &key(seed));
    }
    // The agent holds a, b with its certificate, and d; of d there is only the public half in a file.
    certify(&file("b"), &authority);
    for (name, seed) in [("a", 1), ("b", 2), ("d", 4)] {
        agent.add(&key(seed), &file(name));
    }
    certify(&file("c"), &authority);
    certify(&file("g"), &authority);
    std::fs::remove_file(file("d")).unwrap();
    ssh_keygen(["-q", "-p", "-P", "", "-N", "a passphrase", "-f", file("e").to_str().unwrap()]);
    let mut target = sshd.target();
    target.proof.agent = Some(agent.socket.clone());
    let named = ["c", "missing", "e", "d.pub", "b", "f"].map(file);
    for keys in [&named[..0], &named[..], &named[..3], &named[3..]] {
        for certificates in
            [vec![], vec![file("c-cert.pub"), file("missing-cert.pub")], vec![file("b-cert.pub")]]
        {
            for only_these in [false, true] {
                target.proof.keys = keys.to_vec();
                target.proof.certificates.clone_from(&certificates);
                target.proof.only_these = only_these;
                if keys.is_empty() {
                    // Without any, ssh would try the files of this machine's user.
                    target.proof.keys.push(file("missing"));
                }
                let mut expected = theirs(&sshd, &target);
                let ours = ours(&target).await;
                // What nobody could sign with costs an attempt, and what is shown twice another one.
                let mut seen = Vec::new();
                expected.retain(|line| {
                    !seen.contains(line) && {
                        seen.push(line.clone());
                        true
                    }
                });
                expected.retain(|line| ours.contains(line) || !line.ends_with("certificate"));
                assert_eq!(ours, expected, "{:?}", target.proof);
            }
        }
    }
}

async fn failure(sshd: &Sshd, target: &Target) -> natssh_wire::Failure {
    match sshd.open(target).await.map(drop) {
        Err(NotOpened::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

async fn reason(sshd: &Sshd, target: &Target) -> String {
    match sshd.open(target).await.map(drop) {
        Err(NotOpened::RealSsh(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// A target with so many keys that nobody knows, and then the right one.
fn with_wrong_keys(sshd: &Sshd, wrong: u8) -> Target {
    let mut target = sshd.target();
    target.proof.keys.clear();
    for seed in 0..wrong {
        let path = sshd.path(&format!("wrong-{seed}"));
        write_key(&path, &ed25519(seed));
        target.proof.keys.push(path);
    }
    target.proof.keys.push(sshd.path("id"));
    target
}

#[tokio::test]
async fn the_right_key_may_be_the_last_that_the_server_has_patience_for() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session: Arc<Session> = sshd.open(&with_wrong_keys(&sshd, 5)).await.unwrap();
    let proof = session.proof().unwrap();
    assert_eq!((proof.valid_before, proof.is_still_there()), (None, true));
    std::fs::remove_file(sshd.path("id")).unwrap();
    assert!(!proof.is_still_there());
}

#[tokio::test]
async fn a_server_that_had_enough_is_asked_no_more_and_the_number_of_keys_is_told() {
    let Some(sshd) = Sshd::start("").await else { return };
    let failure = failure(&sshd, &with_wrong_keys(&sshd, 8)).await;
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.message.contains(" had enough after 6 of 9 keys: "), "{failure:?}");
    assert!(failure.hint.unwrap().contains("IdentitiesOnly=yes"));
}

#[tokio::test]
async fn a_refusal_of_keys_alone_reads_as_that_of_ssh() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = with_wrong_keys(&sshd, 2);
    target.proof.keys.pop();
    let failure = failure(&sshd, &target).await;
    assert_eq!(failure.kind, FailureKind::Denied);
    assert_eq!(
        failure.message,
        format!("{}@127.0.0.1: Permission denied (publickey) for 2 keys", target.user)
    );
    target.proof.keys.clear();
    let failure = self::failure(&sshd, &target).await;
    assert!(
        failure.message.ends_with("Permission denied (publickey); there was no key to offer"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn what_a_person_could_still_type_is_left_to_ssh() {
    let Some(sshd) = Sshd::start("PasswordAuthentication yes").await else { return };
    let mut target = with_wrong_keys(&sshd, 1);
    target.proof.keys.pop();
    let reason = reason(&sshd, &target).await;
    assert!(reason.ends_with("accepts none of the keys, and leaves password"), "{reason}");
    // Under BatchMode ssh would ask nobody, and only burden the server again.
    target.proof.other_ways.clear();
    let failure = failure(&sshd, &target).await;
    assert!(failure.message.contains("Permission denied (publickey,password)"), "{failure:?}");
}

#[tokio::test]
async fn a_second_factor_is_left_to_ssh() {
    let lines = "PasswordAuthentication yes\nAuthenticationMethods publickey,password";
    let Some(sshd) = Sshd::start(lines).await else { return };
    let reason = reason(&sshd, &sshd.target()).await;
    assert!(reason.contains(" wants more than a key: password"), "{reason}");
}

#[tokio::test]
async fn a_passphrase_is_left_to_ssh_unless_the_agent_has_the_key() {
    let Some(sshd) = Sshd::start("").await else { return };
    let (target, path) = (sshd.target(), sshd.path("id"));
    let agent = Agent::start(&sshd.path(""));
    agent.add(&user_key(), &path);
    ssh_keygen(["-q", "-p", "-P", "", "-N", "a passphrase", "-f", path.to_str().unwrap()]);
    let reason = reason(&sshd, &target).await;
    assert!(reason.ends_with("/id holds a private key that needs a passphrase"), "{reason}");
    let mut with_agent = target.clone();
    with_agent.proof.agent = Some(agent.socket.clone());
    with_agent.proof.only_these = true;
    let proof = sshd.open(&with_agent).await.unwrap().proof().unwrap();
    assert!(proof.is_still_there());
    drop(agent);
    assert!(!proof.is_still_there());
}

#[tokio::test]
async fn a_key_that_others_may_read_is_used_by_nobody_and_said() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(sshd) = Sshd::start("").await else { return };
    let target = sshd.target();
    std::fs::set_permissions(sshd.path("id"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let failure = failure(&sshd, &target).await;
    assert!(
        failure.message.contains("id holds a private key that others may read (mode 0644)"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn algorithms_that_natssh_does_not_have_are_left_to_ssh() {
    let Some(sshd) = Sshd::start("").await else { return };
    let mut target = sshd.target();
    target.algorithms.macs = vec!["umac-64@openssh.com".into()];
    assert_eq!(reason(&sshd, &target).await, "natssh has none of the algorithms in MACs");
    target.algorithms.macs = vec!["umac-64@openssh.com".into(), "hmac-sha2-256".into()];
    target.algorithms.ciphers = vec!["aes256-ctr".into()];
    target.algorithms.key_exchange =
        vec!["sntrup761x25519-sha512@openssh.com".into(), "curve25519-sha256".into()];
    assert!(sshd.open(&target).await.is_ok());
}

#[tokio::test]
async fn short_rsa_keys_are_neither_shown_nor_believed() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    let generated = ["-q", "-t", "rsa", "-b", "1024", "-N", "", "-C", "", "-f", short.to_str().unwrap()];
    let lines = format!("HostKey {}\nHostKeyAlgorithms rsa-sha2-256", short.display());
    ssh_keygen(generated);
    let Some(sshd) = Sshd::start(&lines).await else { return };
    let mut target = sshd.target();
    target.proof.keys.insert(0, short);
    target.trust.strict = Strict::No;
    target.trust.user_files = vec![folder.path().join("known_hosts")];
    assert_eq!(ours(&target).await.len(), 2);
    sshd.open(&target).await.map(drop).unwrap();

    target.algorithms.least_rsa = 2048;
    assert_eq!(ours(&target).await.len(), 1);
    let refused = sshd.open(&target).await.map(drop);
    let Err(NotOpened::Failed(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.message.contains("1024 bits"), "{failure}");
}

#[tokio::test]
async fn a_server_that_speaks_what_natssh_does_not_is_left_to_ssh() {
    let Some(sshd) = Sshd::start("KexAlgorithms sntrup761x25519-sha512@openssh.com").await else { return };
    let reason = reason(&sshd, &sshd.target()).await;
    assert!(reason.contains("no common Kex algorithm; the server offers sntrup761"), "{reason}");
}

#[tokio::test]
async fn a_certificate_of_another_key_is_not_shown() {
    let Some(sshd) = Sshd::start("").await else { return };
    let (authority, other) = (sshd.path("authority"), sshd.path("other"));
    write_key(&authority, &ed25519(50));
    write_key(&other, &ed25519(51));
    certify(&other, &authority);
    std::fs::rename(sshd.path("other-cert.pub"), sshd.path("id-cert.pub")).unwrap();
    assert_eq!(ours(&sshd.target()).await, [user_key().fingerprint(HashAlg::Sha256).to_string()]);
}

#[tokio::test]
async fn a_certificate_opens_a_session_until_its_end() {
    let Some(sshd) = Sshd::start("TrustedUserCAKeys AUTHORITY").await else { return };
    let (authority, id) = (sshd.path("authority"), sshd.path("certified"));
    write_key(&authority, &ed25519(50));
    write_key(&id, &ed25519(51));
    let mut target = sshd.target();
    let (public, validity) = (id.with_extension("pub"), "20200101:20300101");
    let words = ["-q", "-s", authority.to_str().unwrap(), "-I", "id", "-n", &target.user, "-V", validity];
    assert_eq!(ssh_keygen(words.into_iter().chain([public.to_str().unwrap()])), "");
    target.proof.keys = vec![id];
    let proof = sshd.open(&target).await.unwrap().proof().unwrap();
    assert!(proof.valid_before.is_some_and(|end| end > 1_890_000_000));
}
