//! The files of the lab's authority, read by the programs they are for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use natssh_lab::ca::tsh::{Layout, Profile};
use natssh_lab::ca::{Authority, HostRequest, KeyKind, UserRequest, openssh, tbot, tsh};
use natssh_lab::proxy::TlsRouting;
use ssh_key::{Certificate, PrivateKey, PublicKey};
use tempfile::TempDir;

const KINDS: [KeyKind; 3] = [KeyKind::Rsa, KeyKind::Ed25519, KeyKind::Ecdsa];

fn profile(layout: Layout) -> Profile {
    Profile {
        proxy_host: "proxy.example".into(),
        web_port: 3080,
        ssh_proxy_addr: "proxy.example:3023".into(),
        tls_routing: TlsRouting::Off,
        layout,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What `ssh-keygen -L` says of a certificate.
fn described(certificate: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-Lf").arg(certificate).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ssh_keygen_reads_a_users_certificate_of_every_kind() {
    for kind in KINDS {
        let folder = TempDir::new().unwrap();
        let ca = Authority::new("poc", kind).unwrap();
        let alice = ca.issue_user(&UserRequest::new("alice", &["root", "debian"])).unwrap();
        let key = folder.path().join("alice");
        openssh::write(&key, &alice).unwrap();
        let said = described(&folder.path().join("alice-cert.pub"));
        for expected in [
            "user certificate",
            "Key ID: \"alice\"",
            "Serial: 0",
            "                root\n                debian\n                -teleport-internal-join\n",
            "permit-pty",
            "permit-port-forwarding",
            "permit-agent-forwarding",
            "teleport-roles",
            "teleport-route-to-cluster",
            "Critical Options: (none)",
        ] {
            assert!(said.contains(expected), "{kind:?}: {expected:?} is missing in {said}");
        }
        if kind == KeyKind::Rsa {
            assert!(said.contains("(using rsa-sha2-512)"), "{said}");
        }
        assert_eq!(mode(&key), 0o600);
    }
}

#[test]
fn a_hosts_certificate_names_it_as_teleport_does() {
    let folder = TempDir::new().unwrap();
    let ca = Authority::new("poc", KeyKind::Rsa).unwrap();
    let worker = ca.issue_host(&HostRequest::node("u-1", "worker")).unwrap();
    openssh::write(&folder.path().join("host"), &worker).unwrap();
    let said = described(&folder.path().join("host-cert.pub"));
    let principals: Vec<&str> = said
        .lines()
        .skip_while(|line| !line.contains("Principals:"))
        .skip(1)
        .take_while(|line| !line.contains("Critical"))
        .map(str::trim)
        .collect();
    let expected = ["u-1.poc", "u-1", "worker.poc", "worker", "localhost", "127.0.0.1", "::1"];
    assert_eq!(principals, expected);
    assert!(said.contains("Valid: forever"), "{said}");
    assert!(said.contains("x-teleport-role"), "{said}");
}

#[test]
fn a_tsh_profile_has_the_layout_and_the_modes_of_a_real_one() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    let ca = Authority::new("poc", KeyKind::Rsa).unwrap();
    let alice = ca.issue_user(&UserRequest::new("alice", &["root"])).unwrap();
    tsh::write(home, &profile(Layout::V7), &ca, &alice).unwrap();

    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    assert_eq!(read("current-profile"), "proxy.example\n");
    let yaml = read("proxy.example.yaml");
    assert!(yaml.contains("ssh_proxy_addr: proxy.example:3023\nuser: alice\ncluster: poc\n"), "{yaml}");
    let known = read("known_hosts");
    assert!(known.starts_with("@cert-authority proxy.example,poc,*.poc ssh-rsa AAAA"), "{known}");
    assert!(known.ends_with(" type=host\n"), "{known}");

    let keys = home.join("keys/proxy.example");
    for (name, expected) in [
        ("alice", 0o600),
        ("alice.pub", 0o600),
        ("alice-ssh", 0o700),
        ("alice-ssh/poc-cert.pub", 0o600),
        ("alice-x509.pem", 0o600),
    ] {
        assert_eq!(mode(&keys.join(name)), expected, "{name}");
    }
    let key = PrivateKey::read_openssh_file(keys.join("alice")).unwrap();
    let certificate = Certificate::read_file(&keys.join("alice-ssh/poc-cert.pub")).unwrap();
    assert_eq!(certificate.public_key(), key.public_key().key_data());

    tsh::logout(home).unwrap();
    assert!(!keys.exists() && home.join("proxy.example.yaml").exists());
}

#[test]
fn every_age_of_tsh_has_its_own_names() {
    let ca = Authority::new("poc", KeyKind::Ed25519).unwrap();
    let alice = ca.issue_user(&UserRequest::new("alice", &["root"])).unwrap();
    for (layout, there, elsewhere) in [
        (Layout::V4, &["profile", "keys/proxy.example/alice-cert.pub"][..], &["current-profile"][..]),
        (Layout::V5, &["current-profile", "keys/proxy.example/alice-cert.pub"], &["profile"]),
        (
            Layout::V17,
            &[
                "keys/proxy.example/alice.key",
                "keys/proxy.example/alice.crt",
                "keys/proxy.example/cas/poc.pem",
            ],
            &["keys/proxy.example/alice-x509.pem", "keys/proxy.example/alice-cert.pub"],
        ),
    ] {
        let home = TempDir::new().unwrap();
        // Twice: the second login finds the files of the first.
        for _ in 0..2 {
            tsh::write(home.path(), &profile(layout), &ca, &alice).unwrap();
        }
        for name in there {
            assert!(home.path().join(name).exists(), "{layout:?} has {name}");
        }
        for name in elsewhere {
            assert!(!home.path().join(name).exists(), "{layout:?} has no {name}");
        }
        let known = fs::read_to_string(home.path().join("known_hosts")).unwrap();
        let marked = known.starts_with("@cert-authority proxy.example,poc,*.poc ssh-ed25519 AAAA");
        assert_eq!(marked, layout == Layout::V17, "{layout:?}: {known}");
        assert!(marked || known.starts_with("poc ssh-ed25519 AAAA"), "{layout:?}: {known}");
    }
}

#[test]
fn an_identity_file_holds_key_certificate_and_authority() {
    let ca = Authority::new("poc", KeyKind::Ed25519).unwrap();
    let bot = ca.issue_user(&UserRequest::new("bot", &["root"])).unwrap();
    let folder = TempDir::new().unwrap();
    tbot::write(folder.path(), "proxy.example", &ca, &bot).unwrap();
    let path = folder.path().join("identity");
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let (pem, rest) = text.split_once("-----END OPENSSH PRIVATE KEY-----\n").unwrap();
    PrivateKey::from_openssh(format!("{pem}-----END OPENSSH PRIVATE KEY-----\n")).unwrap();
    Certificate::from_openssh(rest.lines().next().unwrap()).unwrap();
    // The order of Teleport's own (api/identityfile): the user's for TLS, the authority for SSH, the one for TLS.
    let begins = |line: &&str| line.starts_with("-----BEGIN") || line.starts_with('@');
    let parts: Vec<_> = rest.lines().filter(begins).collect();
    let ["-----BEGIN CERTIFICATE-----", ca_line, "-----BEGIN CERTIFICATE-----"] = parts[..] else {
        panic!("{parts:?}")
    };
    let ca_line = ca_line.strip_prefix("@cert-authority *.poc ").unwrap();
    assert_eq!(PublicKey::from_openssh(ca_line).unwrap().key_data(), ca.host_ca().key_data());
    let tls = fs::read_to_string(folder.path().join("teleport-host-ca.crt")).unwrap();
    assert!(text.ends_with(&tls), "{text}");
    assert!(folder.path().join("key-cert.pub").exists());
}

#[test]
fn an_authority_of_old_signs_with_sha1() {
    let folder = TempDir::new().unwrap();
    let mut ca = Authority::new("poc", KeyKind::Rsa).unwrap();
    ca.sign_with_sha1();
    let alice = ca.issue_user(&UserRequest::new("alice", &["root"])).unwrap();
    alice.certificate.verify_signature().unwrap();
    openssh::write(&folder.path().join("alice"), &alice).unwrap();
    let said = described(&folder.path().join("alice-cert.pub"));
    assert!(said.contains("(using ssh-rsa)"), "{said}");
}

#[test]
fn a_saved_authority_is_the_same_one_and_a_rotated_one_is_not() {
    for kind in KINDS {
        let folder = TempDir::new().unwrap();
        let mut ca = Authority::new("poc", kind).unwrap();
        ca.save(folder.path()).unwrap();
        let loaded = Authority::load(folder.path()).unwrap();
        assert_eq!((loaded.cluster(), loaded.kind()), ("poc", kind));
        assert_eq!(loaded.user_ca(), ca.user_ca());
        assert_eq!(loaded.host_ca(), ca.host_ca());
        ca.rotate().unwrap();
        assert_ne!(loaded.user_ca(), ca.user_ca());
    }
}
