//! Every place an identity may come from, written by the test as tsh, tctl, tbot and OpenSSH write it.

use super::testing::{
    NOW, authority, builder, ecdsa, ed25519, host_certificate, pem, public_line, user_certificate, write,
};
use super::*;
use ssh_key::certificate::CertType;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const PROFILE: &str = "\
web_proxy_addr: proxy.example.com:443
ssh_proxy_addr: proxy.example.com:3023
kube_proxy_addr: proxy.example.com:3026
postgres_proxy_addr: proxy.example.com:443
user: alice
cluster: example
dir: \"\"
forward_ports: []
MissingClusterDetails: false
";

const OTHER_PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n-----END CERTIFICATE-----\n";
/// Authorities for TLS, as far as an identity looks at them.
const TLS_CAS: [&str; 2] = [
    "-----BEGIN CERTIFICATE-----\nYXV0aG9yaXR5IDE=\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nYXV0aG9yaXR5IDI=\n-----END CERTIFICATE-----\n",
];

fn tls_authorities(identity: &Identity) -> Vec<String> {
    let text = |authority: &CertificateDer<'_>| String::from_utf8_lossy(authority).into_owned();
    identity.tls_authorities.iter().map(text).collect()
}

fn load(source: &Source) -> Result<Identity, IdentityError> {
    Identity::load("work", source, 1)
}

fn said(source: &Source) -> (String, String) {
    let failure = load(source).expect_err("an error").to_failure();
    assert_eq!(failure.kind, natssh_wire::FailureKind::Identity);
    (failure.message, failure.hint.unwrap())
}

fn tsh(home: &Path) -> Source {
    Source::Tsh { home: home.into(), proxy: None, cluster: None }
}

fn certificate_line(key: &PrivateKey, user: &str) -> String {
    user_certificate(key, user, &["root", "ubuntu"]).to_openssh().unwrap()
}

fn ca_line(hosts: &str) -> String {
    format!("@cert-authority {hosts} {} type=host\n", public_line(&authority()))
}

/// A login as tsh 7 to 16 leaves it.
fn log_in(home: &Path, key: &PrivateKey) {
    write(&home.join("current-profile"), "proxy.example.com\n");
    write(&home.join("proxy.example.com.yaml"), PROFILE);
    write(&home.join("known_hosts"), ca_line("proxy.example.com,example,*.example"));
    let keys = home.join("keys/proxy.example.com");
    write(&keys.join("alice"), pem(key));
    write(&keys.join("alice.pub"), public_line(key));
    write(&keys.join("alice-x509.pem"), OTHER_PEM);
    write(&keys.join("certs.pem"), OTHER_PEM);
    write(&keys.join("alice-ssh/example-cert.pub"), certificate_line(key, "alice"));
}

fn assert_is_alice(identity: &Identity, key: &PrivateKey) {
    assert_eq!(identity.user.as_deref(), Some("alice"));
    assert_eq!(identity.cluster.as_deref(), Some("example"));
    assert_eq!(identity.principals, ["root", "ubuntu"]);
    assert_eq!(identity.lifetime, Lifetime { from: Some(NOW - 3600), until: Some(NOW + 3600) });
    let Credential::Key { key: found, certificate } = &identity.credential else { panic!("{identity:?}") };
    assert_eq!(found.public_key().key_data(), key.public_key().key_data());
    assert_eq!(certificate.as_ref().unwrap().public_key(), key.public_key().key_data());
}

#[test]
fn tsh_7_to_16_keeps_a_certificate_for_each_cluster() {
    let home = tempfile::tempdir().unwrap();
    let key = ed25519(1);
    log_in(home.path(), &key);
    let identity = load(&tsh(home.path())).unwrap();
    assert_is_alice(&identity, &key);
    assert_eq!(identity.generation, 1);
    assert_eq!(identity.renew, "tsh login --proxy=proxy.example.com:443");
    assert!(identity.authorities.matching("node.example", 22).count() == 1);
    let keys = home.path().join("keys/proxy.example.com");
    assert_eq!(identity.ssh_files.key, Some(keys.join("alice")));
    assert_eq!(identity.ssh_files.certificate, Some(keys.join("alice-ssh/example-cert.pub")));
    assert_eq!(identity.ssh_files.known_hosts, Some(home.path().join("known_hosts")));

    let leaf = |cluster: &str| {
        let source = Source::Tsh {
            home: home.path().into(),
            proxy: Some("proxy.example.com:443".into()),
            cluster: Some(cluster.into()),
        };
        load(&source).unwrap().ssh_files.certificate.unwrap()
    };
    assert_eq!(
        leaf("leaf"),
        keys.join("alice-ssh/example-cert.pub"),
        "a leaf takes the root's certificate too"
    );
    write(&keys.join("alice-ssh/leaf-cert.pub"), certificate_line(&key, "alice"));
    assert_eq!(leaf("leaf"), keys.join("alice-ssh/leaf-cert.pub"));
    assert_eq!(leaf("example"), keys.join("alice-ssh/example-cert.pub"));
}

#[test]
fn tsh_4_to_6_keeps_one_certificate_and_bare_authorities() {
    for with_link in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let (home, key) = (home.path(), ecdsa(1));
        write(&home.join("proxy.example.com.yaml"), "web_proxy_addr: proxy.example.com:3080\nuser: alice\n");
        if with_link {
            std::os::unix::fs::symlink("proxy.example.com.yaml", home.join("profile")).unwrap();
        } else {
            write(&home.join("current-profile"), "proxy.example.com");
        }
        write(&home.join("keys/proxy.example.com/alice"), pem(&key));
        write(&home.join("keys/proxy.example.com/alice-cert.pub"), certificate_line(&key, "alice"));
        write(&home.join("known_hosts"), format!("example {}\n", public_line(&authority())));
        let identity = load(&tsh(home)).unwrap();
        assert_is_alice(&identity, &key);
        assert_eq!(identity.authorities.matching("node.example", 22).count(), 1);
        let profile = tsh::current_profile(home).unwrap().unwrap();
        assert_eq!((&*profile.name, &*profile.cluster), ("proxy.example.com", "proxy.example.com"));
    }
}

#[test]
fn tsh_17_keeps_the_tls_key_apart() {
    let home = tempfile::tempdir().unwrap();
    let key = ed25519(17);
    log_in(home.path(), &key);
    let keys = home.path().join("keys/proxy.example.com");
    fs::remove_file(keys.join("alice-x509.pem")).unwrap();
    write(&keys.join("alice.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    write(&keys.join("alice.crt"), OTHER_PEM);
    write(&keys.join("cas/example.pem"), OTHER_PEM);
    assert_is_alice(&load(&tsh(home.path())).unwrap(), &key);
}

#[test]
fn authorities_for_tls_are_found_wherever_a_login_leaves_them() {
    let home = tempfile::tempdir().unwrap();
    let key = ed25519(1);
    log_in(home.path(), &key);
    let keys = home.path().join("keys/proxy.example.com");
    let found = || tls_authorities(&load(&tsh(home.path())).unwrap());
    write(&keys.join("certs.pem"), TLS_CAS[0]);
    assert_eq!(found(), ["authority 1"]);
    write(&keys.join("cas/leaf.pem"), TLS_CAS[1]);
    write(&keys.join("cas/root.pem"), TLS_CAS[0]);
    write(&keys.join("cas/notes.txt"), OTHER_PEM);
    assert_eq!(found(), ["authority 1", "authority 2"]);
    fs::remove_file(keys.join("certs.pem")).unwrap();
    assert_eq!(found(), ["authority 2", "authority 1"]);
    // Who needs none of them is not stopped by a damaged one, which is left out.
    write(&keys.join("cas/root.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    assert_eq!(found(), ["authority 2"]);

    let text = pem(&key)
        + &certificate_line(&key, "alice")
        + "\n"
        + OTHER_PEM
        + &ca_line("*.example")
        + &TLS_CAS.concat();
    write(&home.path().join("id"), &text);
    let of_file = load(&Source::File(home.path().join("id"))).unwrap();
    assert_eq!(tls_authorities(&of_file), ["authority 1", "authority 2"], "the user's own is none");

    let tbot = home.path().join("tbot");
    write(&tbot.join("key"), pem(&key));
    write(&tbot.join("key-cert.pub"), certificate_line(&key, "alice"));
    write(&tbot.join("teleport-host-ca.crt"), TLS_CAS[1]);
    assert_eq!(tls_authorities(&load(&Source::Directory(tbot)).unwrap()), ["authority 2"]);
}

#[test]
fn an_identity_file_is_a_private_key_for_ssh_whatever_else_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("id"), ed25519(1));
    let text =
        pem(&key) + &certificate_line(&key, "alice") + "\n" + OTHER_PEM + &ca_line("*.example") + OTHER_PEM;
    write(&path, text);
    let file = KeyFile::read(&path, false).unwrap();
    assert!(matches!(file.private, Private::Here(_)), "{file:?}");
    assert!(file.holds(key.public_key().key_data()));
}

#[test]
fn what_an_older_tsh_left_behind_is_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let keys = home.path().join("keys/proxy.example.com");
    let (old, new) = (ed25519(1), ed25519(2));
    log_in(home.path(), &old);
    // Back to tsh 6: a new key, and its certificate at the older place.
    write(&keys.join("alice"), pem(&new));
    write(&keys.join("alice-cert.pub"), certificate_line(&new, "alice"));
    let identity = load(&tsh(home.path())).unwrap();
    assert_is_alice(&identity, &new);
    assert_eq!(identity.ssh_files.certificate, Some(keys.join("alice-cert.pub")));
    // And forward again.
    write(&keys.join("alice"), pem(&old));
    let identity = load(&tsh(home.path())).unwrap();
    assert_is_alice(&identity, &old);
    assert_eq!(identity.ssh_files.certificate, Some(keys.join("alice-ssh/example-cert.pub")));
}

#[test]
fn every_profile_in_the_folder_is_found() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let names = || -> Vec<_> {
        tsh::other_profiles(home).into_iter().map(|found| found.map_or("?".into(), |p| p.name)).collect()
    };
    assert!(names().is_empty());
    log_in(home, &ed25519(1));
    assert!(names().is_empty(), "the current one is no other");
    write(&home.join("b.example.org.yaml"), "web_proxy_addr: b.example.org:443\nuser: alice\n");
    write(&home.join("a.example.org.yaml"), "user: [");
    write(&home.join("config/config.yaml"), "no profile");
    std::os::unix::fs::symlink("b.example.org.yaml", home.join("link.yaml")).unwrap();
    assert_eq!(names(), ["?", "b.example.org"]);
    fs::remove_file(home.join("current-profile")).unwrap();
    assert_eq!(names(), ["?", "b.example.org", "proxy.example.com"]);
    std::os::unix::fs::symlink("b.example.org.yaml", home.join("profile")).unwrap();
    assert_eq!(names(), ["?", "proxy.example.com"], "Teleport 4 links to the current one");
    let source = Source::Tsh { home: home.into(), proxy: Some("proxy.example.com".into()), cluster: None };
    assert_is_alice(&load(&source).unwrap(), &ed25519(1));
}

#[test]
fn a_profile_says_how_to_reach_the_proxy() {
    let profile = tsh::Profile::parse(PROFILE, "proxy.example.com").unwrap();
    assert_eq!(
        profile,
        tsh::Profile {
            name: "proxy.example.com".into(),
            proxy_host: "proxy.example.com".into(),
            web_proxy_addr: "proxy.example.com:443".into(),
            ssh_proxy_addr: "proxy.example.com:3023".into(),
            user: "alice".into(),
            cluster: "example".into(),
            tls_routing_enabled: false,
            conn_upgrade_required: false,
        }
    );
    for (text, ssh, host) in [
        ("web_proxy_addr: p.example.com:3080\nuser: a", "p.example.com:3023", "p.example.com"),
        ("web_proxy_addr: p:443\nuser: a\ntls_routing_enabled: true", "p:443", "p"),
        ("web_proxy_addr: '[2001:db8::1]:3080'\nuser: a", "[2001:db8::1]:3023", "2001:db8::1"),
        ("user: a", "name:3023", "name"),
    ] {
        let profile = tsh::Profile::parse(text, "name").unwrap();
        assert_eq!((&*profile.ssh_proxy_addr, &*profile.proxy_host), (ssh, host), "{text}");
    }
    assert_eq!(tsh::Profile::parse("web_proxy_addr: p:443", "p").unwrap_err(), "it names no user");
    assert!(tsh::Profile::parse("web_proxy_addr: [", "p").is_err());
}

#[test]
fn tshs_folder_is_where_tsh_looks_for_it() {
    let home = |set: Option<&str>, home: Option<&str>| tsh::home(set.map(AsRef::as_ref), home.map(Path::new));
    assert_eq!(home(None, Some("/home/alice")), Some("/home/alice/.tsh".into()));
    assert_eq!(home(Some(""), Some("/home/alice")), Some("/home/alice/.tsh".into()));
    assert_eq!(home(Some("/srv/tsh"), Some("/home/alice")), Some("/srv/tsh".into()));
    assert_eq!(home(None, None), None);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(tsh::current_profile(empty.path()), Ok(None), "who never logged in has no profile");
    write(&empty.path().join("current-profile"), "gone\n");
    assert_eq!(tsh::current_profile(empty.path()), Ok(None));
    write(&empty.path().join("gone.yaml"), "user: [");
    assert!(tsh::current_profile(empty.path()).is_err());
}

#[test]
fn an_identity_file_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice.identity");
    let key = ed25519(1);
    let text =
        [&*pem(&key), &*certificate_line(&key, "alice"), "\n", OTHER_PEM, &*ca_line("*.example"), OTHER_PEM]
            .concat();
    write(&path, &text);
    let identity = load(&Source::File(path.clone())).unwrap();
    assert_is_alice(&identity, &key);
    assert_eq!(identity.authorities.complaints(), []);
    let line = identity.authorities.matching("node.example", 22).next().unwrap();
    let number = 1 + text.lines().position(|line| line.starts_with('@')).unwrap();
    assert_eq!(line.origin.to_string(), format!("{}:{number}", path.display()));
    let ssh_files =
        SshFiles { key: Some(path.clone()), known_hosts: Some(path.clone()), ..SshFiles::default() };
    assert_eq!(identity.ssh_files, ssh_files);

    write(&path, pem(&key));
    let (message, hint) = said(&Source::File(path.clone()));
    assert_eq!(
        message,
        format!(
            "{} holds no certificate: there is neither a certificate in it nor one beside it",
            path.display()
        )
    );
    assert_eq!(hint, format!("tsh login --out={0}, or tctl auth sign --out={0}", path.display()));
    let beside = folder.path().join("alice.identity-cert.pub");
    write(&beside, certificate_line(&key, "alice"));
    let identity = load(&Source::File(path)).unwrap();
    assert_is_alice(&identity, &key);
    assert_eq!(identity.ssh_files.certificate, Some(beside));
}

#[test]
fn a_tbot_folder_has_files_for_ssh_or_an_identity_file() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, key) = (folder.path(), ed25519(1));
    let (message, hint) = said(&Source::Directory(folder.into()));
    assert_eq!(message, format!("there is no key of tbot at {}", folder.join("key").display()));
    assert!(hint.contains("tbot"), "{hint}");

    write(
        &folder.join("identity"),
        pem(&key) + &certificate_line(&key, "alice") + "\n" + &ca_line("*.example"),
    );
    let identity = load(&Source::Directory(folder.into())).unwrap();
    assert_is_alice(&identity, &key);
    assert_eq!(identity.ssh_files.key, Some(folder.join("identity")));

    write(&folder.join("key"), pem(&key));
    write(&folder.join("key-cert.pub"), certificate_line(&key, "alice"));
    write(&folder.join("known_hosts"), ca_line("proxy.example.com,example,*.example"));
    let identity = load(&Source::Directory(folder.into())).unwrap();
    assert_is_alice(&identity, &key);
    assert_eq!(identity.ssh_files.certificate, Some(folder.join("key-cert.pub")));
    assert_eq!(identity.authorities.lines().len(), 1);
}

#[test]
fn an_openssh_key_stands_alone_or_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    let key = ecdsa(1);
    let source = |certificate: Option<&str>| Source::Keys {
        key: path.clone(),
        certificate: certificate.map(|name| folder.path().join(name)),
    };
    assert_eq!(said(&source(None)).0, format!("there is no private key at {}", path.display()));
    write(&path, pem(&key));
    let alone = load(&source(None)).unwrap();
    assert!(alone.credential.certificate().is_none());
    assert_eq!((alone.validity(NOW), alone.login(Some("anyone")).unwrap()), (Validity::Valid, "anyone"));
    assert!(alone.login(None).is_err());
    assert!(said(&source(Some("other.pub"))).0.starts_with("there is no certificate at "));
    write(&folder.path().join("other.pub"), certificate_line(&key, "alice"));
    assert_is_alice(&load(&source(Some("other.pub"))).unwrap(), &key);
    write(&folder.path().join("id-cert.pub"), certificate_line(&key, "alice") + " a comment of words\r\n");
    assert_is_alice(&load(&source(None)).unwrap(), &key);
}

#[test]
fn every_mistake_has_a_sentence_and_something_to_type() {
    let home = tempfile::tempdir().unwrap();
    let (home, key) = (home.path(), ed25519(1));
    let keys = home.join("keys/proxy.example.com");
    let (private, certificate) = (keys.join("alice"), keys.join("alice-ssh/example-cert.pub"));
    let login = "tsh login --proxy=proxy.example.com:443";
    let check = |message: String, hint: &str| assert_eq!(said(&tsh(home)), (message, hint.to_owned()));

    check(
        format!("there is no tsh profile at {}", home.join("profile").display()),
        "tsh login --proxy=PROXY",
    );
    log_in(home, &key);
    fs::remove_file(&certificate).unwrap();
    check(format!("there is no certificate at {}", certificate.display()), login);
    for (text, why) in [
        ("", "it is empty"),
        ("nonsense\n", "there is no line like ssh-…-cert-v01@openssh.com AAAA… in it"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "the certificate in it is damaged (length invalid)"),
    ] {
        write(&certificate, text);
        check(format!("{} holds no certificate: {why}", certificate.display()), login);
    }
    write(&certificate, certificate_line(&ed25519(2), "alice"));
    check(
        format!("{} is a certificate for another key than {}", certificate.display(), private.display()),
        login,
    );
    write(&certificate, host_certificate(&key, &["web"]).to_openssh().unwrap());
    check(format!("{} is the certificate of a host and not of a user", certificate.display()), login);

    fs::remove_file(&private).unwrap();
    check(format!("there is no private key at {}", private.display()), login);
    let reference =
        "-----BEGIN PIV YUBIKEY PRIVATE KEY-----\nc2xvdA==\n-----END PIV YUBIKEY PRIVATE KEY-----\n";
    for (text, why) in [
        (&*public_line(&key), "it holds a public key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "it is a PuTTY key; puttygen -O private-openssh converts it"),
        (&pem(&key)[..200], "the \"OPENSSH PRIVATE KEY\" in it has no end"),
        ("", "it is empty"),
        ("nonsense", "there is no private key in it"),
    ] {
        write(&private, text);
        check(format!("{} holds no private key: {why}", private.display()), login);
    }
    write(&private, reference);
    check(
        format!(
            "{} only refers to a private key in a YubiKey (PIV), which tsh alone can use",
            private.display()
        ),
        "tsh ssh HOST; for natssh, log in with a role that asks for no hardware key, or use tbot",
    );
    write(&private, pem(&key));
    fs::set_permissions(&private, fs::Permissions::from_mode(0o640)).unwrap();
    check(
        format!("{} holds a private key that others may read (mode 0640)", private.display()),
        &format!("chmod 600 {}", private.display()),
    );
    fs::remove_file(&private).unwrap();
    fs::create_dir(&private).unwrap();
    check(
        format!("{} cannot be read: it is not a regular file", private.display()),
        &format!("ls -l {}", private.display()),
    );
}

#[test]
fn an_unreadable_file_says_whose_it_is() {
    if rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: root may read every file");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    write(&path, pem(&ed25519(1)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let (message, _) = said(&Source::Keys { key: path.clone(), certificate: None });
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        message,
        format!(
            "{} cannot be read: permission denied (it belongs to uid {uid}, mode 0000; this is uid {uid})",
            path.display()
        )
    );
}

#[test]
fn an_expired_certificate_is_read_and_not_used() {
    let home = tempfile::tempdir().unwrap();
    log_in(home.path(), &ed25519(1));
    let identity = load(&tsh(home.path())).unwrap();
    assert_eq!(identity.check(NOW), Ok(()));
    let expired = identity.check(NOW + 3600 + 12 * 60).unwrap_err().to_failure();
    assert_eq!(expired.message, "the certificate of alice expired 12 minutes ago");
    assert_eq!(expired.hint.unwrap(), "tsh login --proxy=proxy.example.com:443");
    let early = identity.check(NOW - 3660).unwrap_err().to_failure();
    assert_eq!(
        early.message,
        "the certificate of alice begins in 1 minute: this machine's clock is slow by at least that, unless the \
         certificate was made for later"
    );
    assert_eq!(identity.validity(NOW + 3500), Validity::Expiring { left: 100 });
}

#[test]
fn a_login_is_one_that_the_certificate_allows() {
    let home = tempfile::tempdir().unwrap();
    let key = ed25519(1);
    log_in(home.path(), &key);
    let identity = load(&tsh(home.path())).unwrap();
    assert_eq!(identity.login(None).unwrap(), "root");
    assert_eq!(identity.login(Some("ubuntu")).unwrap(), "ubuntu");
    let refused = identity.login(Some("postgres")).unwrap_err().to_failure();
    assert_eq!(
        refused.message,
        "the certificate of alice does not allow the login \"postgres\", only root, ubuntu"
    );
    assert_eq!(refused.hint.unwrap(), "ssh -l root …, or ask for a role that allows the login");
    let internal = identity.login(Some("-teleport-internal-join"));
    assert!(internal.is_err(), "Teleport's own principals are no logins");

    let mut nobody = builder(&key, CertType::User, &["-teleport-nologin-4f2a", "-teleport-internal-join"]);
    nobody.key_id("alice").unwrap();
    let path = home.path().join("keys/proxy.example.com/alice-ssh/example-cert.pub");
    write(&path, nobody.sign(&authority()).unwrap().to_openssh().unwrap());
    let identity = load(&tsh(home.path())).unwrap();
    assert_eq!(identity.login(None).unwrap_err().to_string(), "the certificate of alice names no login");
    assert_eq!(
        identity.login(Some("root")).unwrap_err().to_string(),
        "the certificate of alice allows no login, so not \"root\" either"
    );
}

#[test]
fn no_secret_is_ever_printed() {
    let home = tempfile::tempdir().unwrap();
    let key = ed25519(1);
    log_in(home.path(), &key);
    let printed = format!("{:?}", load(&tsh(home.path())).unwrap());
    assert!(printed.contains("SHA256:"), "{printed}");
    assert!(
        !printed.contains("[1, 1, 1") && !printed.contains("0101") && !printed.contains("private"),
        "{printed}"
    );
}
