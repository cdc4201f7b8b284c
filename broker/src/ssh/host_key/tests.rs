//! What is believed, and what is said when it is not.

use super::*;
use crate::identity::testing::{
    NOW, authority, builder, ecdsa, ed25519, host_certificate, public_line, ssh_keygen,
};
use crate::known_hosts::Dialect;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};

fn known(text: &str) -> KnownHosts {
    let known = KnownHosts::parse(text, "/h/known_hosts", Dialect::OpenSsh);
    assert_eq!(known.complaints(), []);
    known
}

fn trusting(hosts: &str) -> KnownHosts {
    known(&format!("@cert-authority {hosts} {}\n", public_line(&authority())))
}

fn judge(known: &KnownHosts, names: &Names, certificate: &Certificate) -> Result<Verdict, HostKeyError> {
    verify(known, names, Presented::Certificate(certificate), NOW, Sha1::Refused)
}

fn fault(result: Result<Verdict, HostKeyError>) -> Fault {
    match result {
        Err(HostKeyError::Certificate { fault, .. }) => *fault,
        other => panic!("{other:?}"),
    }
}

fn print(key: &PrivateKey) -> String {
    describe(key.public_key().key_data())
}

#[test]
fn a_certificate_of_a_trusted_authority_is_believed() {
    let certificate = host_certificate(&ed25519(1), &["proxy.example.com", "proxy"]);
    let names = Names::new("Proxy.example.com", 3023);
    for hosts in ["proxy.example.com", "*.example.com", "*", "[proxy.example.com]:3023", "[*]:3023"] {
        let verdict = judge(&trusting(hosts), &names, &certificate).unwrap();
        let Verdict::Certificate { authority: by, origin } = verdict else { panic!("{hosts}: {verdict:?}") };
        assert_eq!((by, origin.line), (authority().fingerprint(HashAlg::Sha256), 1), "{hosts}");
    }
}

#[test]
fn a_cluster_vouches_for_a_proxy_whatever_its_address() {
    let certificate = host_certificate(&ed25519(1), &["127.0.0.1", "proxy.poc"]);
    let names = Names::new("127.0.0.1", 3023);
    for hosts in ["localhost,poc,*.poc", "*.poc", "poc"] {
        assert!(
            matches!(fault(judge(&trusting(hosts), &names, &certificate)), Fault::UntrustedAuthority { .. }),
            "{hosts}"
        );
        assert!(judge(&trusting(hosts), &names.clone().in_cluster("poc"), &certificate).is_ok(), "{hosts}");
        assert!(
            judge(&trusting(hosts), &names.clone().in_cluster("other"), &certificate).is_err(),
            "{hosts}"
        );
    }
    let tsh6 =
        KnownHosts::parse(&format!("poc {}", public_line(&authority())), "/h/.tsh/known_hosts", Dialect::Tsh);
    assert!(judge(&tsh6, &names.in_cluster("poc"), &certificate).is_ok());
}

#[test]
fn each_defect_of_a_certificate_is_named() {
    let key = ed25519(1);
    let trust = trusting("*");
    let names = Names::new("web", 22).with_teleport_role("Proxy");
    let sign = |kind, principals: &[&str], more: &dyn Fn(&mut Builder)| {
        let mut builder = builder(&key, kind, principals);
        more(&mut builder);
        builder.sign(&authority()).unwrap()
    };
    let host = CertType::Host;
    let good = sign(host, &["web"], &|_| {});
    assert!(judge(&trust, &names, &good).is_ok());
    assert!(judge(&trust, &names, &sign(host, &["*eb"], &|_| {})).is_ok(), "a principal may hold wildcards");
    assert!(judge(&trust, &names, &sign(host, &["WEB"], &|_| {})).is_ok());
    let proxy = sign(host, &["web"], &|b| {
        b.extension("x-teleport-role", "Proxy").unwrap();
    });
    assert!(judge(&trust, &names, &proxy).is_ok());

    assert_eq!(
        fault(judge(&trust, &names, &sign(CertType::User, &["web"], &|_| {}))),
        Fault::UserCertificate
    );
    assert_eq!(fault(judge(&trust, &names, &sign(host, &[], &|_| {}))), Fault::NoPrincipals);
    let other = sign(host, &["web2", "we"], &|_| {});
    assert_eq!(
        fault(judge(&trust, &names, &other)),
        Fault::OtherHost { principals: vec!["web2".into(), "we".into()] }
    );
    let forced = sign(host, &["web"], &|b| {
        b.critical_option("force-command", "x").unwrap();
    });
    assert_eq!(
        fault(judge(&trust, &names, &forced)),
        Fault::CriticalOption { option: "force-command".into() }
    );
    let node = sign(host, &["web"], &|b| {
        b.extension("x-teleport-role", "Node").unwrap();
    });
    assert_eq!(
        fault(judge(&trust, &names, &node)),
        Fault::OtherRole { role: "Node".into(), wanted: "Proxy" }
    );
    assert!(judge(&trust, &Names::new("web", 22), &node).is_ok(), "elsewhere the role does not matter");

    let at = |now| fault(verify(&trust, &names, Presented::Certificate(&good), now, Sha1::Refused));
    assert_eq!(at(NOW - 3601), Fault::NotYetValid { seconds: 1 });
    assert_eq!(at(NOW + 3600), Fault::Expired { seconds: 0 });

    let stranger = builder(&key, host, &["web"]).sign(&ed25519(77)).unwrap();
    let trusted = vec![print(&authority())];
    assert_eq!(fault(judge(&trust, &names, &stranger)), Fault::UntrustedAuthority { trusted });
    assert_eq!(
        fault(judge(&KnownHosts::default(), &names, &good)),
        Fault::UntrustedAuthority { trusted: vec![] }
    );
}

#[test]
fn a_forged_signature_is_refused() {
    let key = ed25519(1);
    let mut bytes = host_certificate(&key, &["web"]).to_bytes().unwrap();
    // The last bytes are the signature.
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Certificate::from_bytes(&bytes).unwrap();
    assert_eq!(fault(judge(&trusting("*"), &Names::new("web", 22), &forged)), Fault::Signature);
}

#[test]
fn every_kind_of_authority_signs_and_sha1_only_where_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (kind, ca_type, signature, believed) in [
        ("ed25519", "ed25519", None, true),
        ("ecdsa", "ecdsa", None, true),
        ("rsa", "rsa", None, true),
        ("rsa", "rsa", Some("rsa-sha2-256"), true),
        ("rsa", "rsa", Some("ssh-rsa"), false),
    ] {
        let bits = if kind == "rsa" { "2048" } else { "256" };
        let name = format!("{kind}{}", signature.unwrap_or_default());
        let (ca, host) = (path(&format!("{name}.ca")), path(&format!("{name}.host")));
        ssh_keygen(["-q", "-t", ca_type, "-b", bits, "-N", "", "-f", &ca]);
        ssh_keygen(["-q", "-t", kind, "-b", bits, "-N", "", "-f", &host]);
        let mut words = vec!["-q", "-s", &ca, "-h", "-I", "id", "-n", "web", "-V", "-1h:+1h"];
        words.extend(signature.iter().flat_map(|kind| ["-t", kind]));
        let public = format!("{host}.pub");
        words.push(&public);
        ssh_keygen(words);
        let certificate = Certificate::read_file(format!("{host}-cert.pub").as_ref()).unwrap();
        let trust =
            known(&format!("@cert-authority web {}", std::fs::read_to_string(format!("{ca}.pub")).unwrap()));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let names = Names::new("web", 22);
        let judge = |sha1| verify(&trust, &names, Presented::Certificate(&certificate), now, sha1);
        assert!(judge(Sha1::Allowed).is_ok(), "{name}: {:?}", judge(Sha1::Allowed));
        match judge(Sha1::Refused) {
            Ok(_) => assert!(believed, "{name}"),
            refused => assert_eq!((fault(refused), believed), (Fault::Sha1, false), "{name}"),
        }
    }
}

#[test]
fn a_plain_key_is_known_changed_or_unknown() {
    let (one, two, three) = (ed25519(1), ed25519(2), ecdsa(3));
    let known = known(&format!("web {}\n[web]:2222 {}\n", public_line(&one), public_line(&three)));
    let judge = |port, key: &PrivateKey| {
        verify(&known, &Names::new("web", port), Presented::Key(key.public_key()), NOW, Sha1::Refused)
    };
    assert!(matches!(judge(22, &one), Ok(Verdict::Key { origin }) if origin.line == 1));
    assert!(judge(2222, &three).is_ok());
    assert!(judge(2200, &one).is_ok(), "a port of which nothing is known falls back to the host");
    assert!(judge(2222, &one).is_err(), "a port of which something is known does not");

    let changed = judge(22, &two).unwrap_err().to_failure();
    assert_eq!(changed.kind, natssh_wire::FailureKind::HostKey);
    assert_eq!(
        changed.message,
        format!(
            "the host key of web:22 has changed: it shows {}, and /h/known_hosts:1 says {}",
            print(&two),
            print(&one)
        )
    );
    assert_eq!(changed.hint.unwrap(), "if the change is expected: ssh-keygen -R 'web' -f '/h/known_hosts'");
    assert!(judge(2222, &two).unwrap_err().to_failure().hint.unwrap().contains("-R '[web]:2222'"));
    assert!(judge(2200, &two).unwrap_err().to_failure().hint.unwrap().contains("-R 'web'"));

    let names = Names::new("db", 2222);
    let unknown = verify(&known, &names, Presented::Key(two.public_key()), NOW, Sha1::Refused)
        .unwrap_err()
        .to_failure();
    assert_eq!(unknown.message, format!("the host key of db:2222 is not known: it shows {}", print(&two)));
    assert_eq!(unknown.hint.unwrap(), "compare and accept it once with: ssh -p 2222 db");
}

#[test]
fn revocation_beats_everything() {
    let (host, ca) = (ed25519(1), authority());
    let certificate = host_certificate(&host, &["web"]);
    let trust = format!("@cert-authority * {}\nweb {}\n", public_line(&ca), public_line(&host));
    for (revoked, is_authority) in [(&host, false), (&ca, true)] {
        for hosts in ["*", "web", "[web]:2222"] {
            let known = known(&format!("{trust}@revoked {hosts} {}\n", public_line(revoked)));
            let error = judge(&known, &Names::new("web", 2222), &certificate).unwrap_err();
            assert!(
                matches!(&error, HostKeyError::Revoked { is_authority: a, .. } if *a == is_authority),
                "{hosts}: {error}"
            );
        }
        let known = known(&format!("{trust}@revoked other {}\n", public_line(revoked)));
        assert!(judge(&known, &Names::new("web", 2222), &certificate).is_ok());
    }
    let known = known(&format!("{trust}@revoked * {}\n", public_line(&host)));
    let error = verify(&known, &Names::new("web", 22), Presented::Key(host.public_key()), NOW, Sha1::Refused)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the host key of web:22 is revoked at /h/known_hosts:3: {}", print(&host))
    );
}

#[test]
fn a_certificate_that_does_not_serve_still_holds_a_key_that_may_be_known() {
    let (host, other) = (ed25519(1), ed25519(2));
    let names = Names::new("web", 22);
    let certificate = host_certificate(&host, &["somewhere-else"]);
    let by_key = known(&format!("web {}\n", public_line(&host)));
    assert!(matches!(judge(&by_key, &names, &certificate), Ok(Verdict::Key { .. })));
    let mut both = trusting("*");
    both.extend(by_key);
    assert!(matches!(judge(&both, &names, &certificate), Ok(Verdict::Key { .. })));
    let changed = known(&format!("web {}\n", public_line(&other)));
    assert!(matches!(judge(&changed, &names, &certificate), Err(HostKeyError::Changed { .. })));
}

#[test]
fn the_sentences_name_the_key_the_authority_and_the_way_out() {
    let host = ed25519(1);
    let names = Names::new("proxy.example.com", 3023).in_cluster("poc");
    let say = |known: &KnownHosts, certificate: &Certificate| {
        judge(known, &names, certificate).unwrap_err().to_failure().to_string()
    };
    let keys = format!("(its key is {}, signed by {})", print(&host), print(&authority()));
    let good = host_certificate(&host, &["proxy.example.com"]);
    assert_eq!(
        say(&KnownHosts::default(), &good),
        format!(
            "proxy.example.com:3023 shows a certificate, and no authority is trusted for it {keys} \
             (tsh login brings the authorities of poc; tctl auth export --type=host prints them)"
        )
    );
    let others = host_certificate(&host, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(
        say(&trusting("*"), &others),
        format!(
            "proxy.example.com:3023 shows a certificate for a, b, c, d and 2 more {keys} \
             (dial it by a name that the certificate holds)"
        )
    );
}

#[test]
fn what_is_known_decides_what_to_ask_for() {
    let known = known(&format!(
        "@cert-authority *.poc {}\nweb {}\nweb,x {}\n[web]:2222 {}\n",
        public_line(&authority()),
        public_line(&ecdsa(1)),
        public_line(&ed25519(1)),
        public_line(&ed25519(2)),
    ));
    let kinds = |names: Names| expected(&known, &names);
    let web = kinds(Names::new("web", 22));
    assert_eq!(web.keys, [ecdsa(1).algorithm(), Algorithm::Ed25519]);
    assert!(!web.certificate);
    assert_eq!(kinds(Names::new("web", 2222)).keys, [Algorithm::Ed25519]);
    assert!(kinds(Names::new("web", 22).in_cluster("poc")).certificate);
    assert_eq!(kinds(Names::new("elsewhere", 22)), Expected::default());
}
