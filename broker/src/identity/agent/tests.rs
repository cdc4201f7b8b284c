//! Agents that answer well, badly and not at all.

use super::*;
use crate::identity::testing::{
    NOW, authority, builder, ecdsa, ed25519, host_certificate, pem, user_certificate, write,
};
use crate::identity::{Identity, Source, Watched};
use proptest::prelude::*;
use ssh_key::certificate::CertType;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;

/// The bytes of an answer with these public halves.
fn answer(blobs: &[Vec<u8>]) -> Vec<u8> {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let mut answer = vec![IDENTITIES_ANSWER];
    answer.extend(u32::try_from(blobs.len()).unwrap().to_be_bytes());
    for blob in blobs {
        answer.extend(string(blob));
        answer.extend(string(b"a comment"));
    }
    answer
}

/// An agent that answers one request with these bytes, length included, and closes.
fn agent_that_says(bytes: Vec<u8>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, REQUEST_IDENTITIES);
        let _ = stream.write_all(&bytes);
    });
    (folder, socket)
}

fn framed(answer: &[u8]) -> Vec<u8> {
    [&u32::try_from(answer.len()).unwrap().to_be_bytes(), answer].concat()
}

fn why(socket: &Path) -> String {
    list(socket).unwrap_err().to_failure().message
}

#[test]
fn certificates_come_first_and_what_cannot_serve_is_left_out() {
    let (plain, old, new, teleport) = (ed25519(1), ed25519(2), ed25519(3), ecdsa(4));
    let bytes = |certificate: &Certificate| certificate.to_bytes().unwrap();
    let old_certificate = builder(&old, CertType::User, &["root"]).sign(&authority()).unwrap();
    let mut longer =
        ssh_key::certificate::Builder::new(*b"0123456789abcdef", new.public_key(), NOW, NOW * 2).unwrap();
    longer.cert_type(CertType::User).unwrap().valid_principal("root").unwrap();
    let longer = longer.sign(&authority()).unwrap();
    let of_teleport = user_certificate(&teleport, "alice", &["root"]);
    let blobs = [
        plain.public_key().to_bytes().unwrap(),
        bytes(&host_certificate(&ed25519(5), &["web"])),
        bytes(&old_certificate),
        bytes(&longer),
        b"\0\0\0\x0bssh-unknown\0\0\0\x01x".to_vec(),
        bytes(&of_teleport),
    ];
    let (_folder, socket) = agent_that_says(framed(&answer(&blobs)));
    let expected = [
        AgentKey::Certificate(Box::new(of_teleport)),
        AgentKey::Certificate(Box::new(longer)),
        AgentKey::Certificate(Box::new(old_certificate)),
        AgentKey::Key(Box::new(plain.public_key().clone())),
    ];
    assert_eq!(list(&socket).unwrap(), expected);
}

#[test]
fn an_agent_that_makes_no_sense_is_an_error_and_not_a_wait() {
    let huge = u32::MAX.to_be_bytes().to_vec();
    let mut too_many = answer(&[]);
    too_many[1..5].copy_from_slice(&3000_u32.to_be_bytes());
    let mut trailing = answer(&[]);
    trailing.push(0);
    for (bytes, expected) in [
        (huge, "its answer is far too long"),
        (framed(&[]), "its answer makes no sense"),
        (framed(&[5]), "its answer makes no sense"),
        (framed(&too_many), "its answer makes no sense"),
        (framed(&trailing), "its answer makes no sense"),
        (vec![0, 0, 0, 9, 12], "it closed the connection"),
        (vec![], "it closed the connection"),
    ] {
        let (_folder, socket) = agent_that_says(bytes.clone());
        let expected = format!("the ssh agent at {} does not answer: {expected}", socket.display());
        assert_eq!(why(&socket), expected, "{bytes:?}");
    }
}

#[test]
fn an_agent_that_is_silent_or_gone_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    assert!(why(&socket).ends_with("does not answer: no such file or directory"));
    // It accepts nothing, and its queue takes the connection.
    let listener = UnixListener::bind(&socket).unwrap();
    let start = Instant::now();
    assert!(why(&socket).ends_with("does not answer: nothing came within 2 s"), "{}", why(&socket));
    assert!(start.elapsed() < 3 * PATIENCE);
    drop(listener);
    // A child that another test has just forked may hold the listener for a moment longer.
    while !why(&socket).ends_with("does not answer: connection refused") {
        assert!(start.elapsed() < 10 * PATIENCE, "{}", why(&socket));
    }
    let none = Identity::load("agent", &Source::Agent(None), 1).unwrap_err().to_failure();
    assert_eq!(
        none.to_string(),
        "no ssh agent is named: SSH_AUTH_SOCK is not set (eval \"$(ssh-agent)\" && ssh-add)"
    );
}

/// A real ssh-agent, ended with the value.
struct RealAgent(Child);

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_come_and_go_in_a_real_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, path) = (folder.path().join("agent.sock"), folder.path().join("id"));
    let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
    let _agent = RealAgent(child.expect("ssh-agent, of OpenSSH's client, is installed"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "ssh-agent did not start");
        thread::sleep(Duration::from_millis(10));
    }
    let ssh_add = |arguments: &[&str]| {
        let added = Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    };
    let watched = Watched::open("agent", Source::Agent(Some(socket.clone())));
    let empty = watched.current().identity.as_ref().unwrap_err().to_failure();
    assert_eq!(empty.message, format!("the ssh agent at {} holds no usable key", socket.display()));

    let key = ed25519(1);
    write(&path, pem(&key));
    write(
        &folder.path().join("id-cert.pub"),
        user_certificate(&key, "alice", &["root"]).to_openssh().unwrap(),
    );
    ssh_add(&["-q", path.to_str().unwrap()]);
    let snapshot = watched.refresh();
    let identity = snapshot.identity.as_ref().unwrap();
    assert_eq!((identity.user.as_deref(), snapshot.generation), (Some("alice"), 1));
    assert_eq!(identity.login(None).unwrap(), "root");
    let Credential::Agent { keys, .. } = &identity.credential else { panic!("{identity:?}") };
    assert_eq!(keys.len(), 2, "the certificate and the key under it");
    assert_eq!(keys[0].certificate().unwrap().key_id(), "alice");

    ssh_add(&["-q", "-D"]);
    assert!(watched.refresh().identity.is_err(), "a key that left the agent is used no more");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0_u32..4) {
        let _ = decode(&bytes);
        let told = [&[IDENTITIES_ANSWER][..], &count.to_be_bytes(), &bytes].concat();
        for blob in decode(&told).unwrap_or_default() {
            let _ = key_of(blob);
        }
    }
}
