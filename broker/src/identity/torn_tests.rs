//! Readers among writers: tsh and tbot rewrite their files in place, one after the other.
//!
//! The writer here stops wherever the test wants it to, with a file emptied, cut
//! short or still old, and each time a reader looks. What it takes for an
//! identity must be one that was really issued.

use super::files::Files;
use super::testing::{authority, ed25519, pem, public_line, user_certificate, write};
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::fs;
use std::path::Path;

/// The files of one kind of place, in the order in which they are written.
struct Layout {
    files: &'static [(&'static str, Part)],
    source: fn(&Path) -> Source,
}

#[derive(Clone, Copy)]
enum Part {
    Key,
    Certificate,
    KnownHosts,
    Everything,
}

const LAYOUTS: [Layout; 4] = [
    // AddKey of tsh up to 6.
    Layout {
        files: &[
            ("known_hosts", Part::KnownHosts),
            ("keys/p/alice-cert.pub", Part::Certificate),
            ("keys/p/alice", Part::Key),
        ],
        source: tsh,
    },
    // The same since 7.
    Layout {
        files: &[
            ("known_hosts", Part::KnownHosts),
            ("keys/p/alice", Part::Key),
            ("keys/p/alice-ssh/p-cert.pub", Part::Certificate),
        ],
        source: tsh,
    },
    Layout {
        files: &[("key", Part::Key), ("key-cert.pub", Part::Certificate), ("known_hosts", Part::KnownHosts)],
        source: |folder| Source::Directory(folder.into()),
    },
    Layout {
        files: &[("identity", Part::Everything)],
        source: |folder| Source::File(folder.join("identity")),
    },
];

fn tsh(folder: &Path) -> Source {
    Source::Tsh { home: folder.into(), proxy: Some("p".into()), cluster: None }
}

/// What login number `n` writes there; every second one is a renewal for the key before.
fn text(part: Part, n: u8) -> String {
    let key = ed25519(n / 2);
    let certificate =
        || user_certificate(&key, &format!("alice-{n}"), &["root"]).to_openssh().unwrap() + "\n";
    let known_hosts = || format!("@cert-authority p,p,*.p {} type=host\n", public_line(&authority()));
    match part {
        Part::Key => pem(&key),
        Part::Certificate => certificate(),
        Part::KnownHosts => known_hosts(),
        Part::Everything => pem(&key) + &certificate() + &known_hosts(),
    }
}

/// What a reader makes of the place at this moment, without a second look.
fn read(source: &Source) -> Result<Identity, IdentityError> {
    let mut files = Files::default();
    source.find(&mut files).map(|found| Identity::from_found("torn", found))
}

/// The login that an identity comes from; it panics over one that mixes two.
fn issued(identity: &Identity) -> u8 {
    let Credential::Key { key, certificate: Some(certificate) } = &identity.credential else {
        panic!("{identity:?}")
    };
    let n = certificate.key_id().strip_prefix("alice-").unwrap().parse().unwrap();
    assert_eq!(key.public_key().key_data(), ed25519(n / 2).public_key().key_data());
    assert_eq!(certificate.public_key(), key.public_key().key_data());
    n
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_writer_stopped_anywhere_never_makes_a_reader_mix_two_logins(
        layout in 0..LAYOUTS.len(),
        stops in prop::collection::vec((any::<Index>(), any::<Index>()), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let Layout { files, source } = &LAYOUTS[layout];
        let source = source(folder.path());
        write(&folder.path().join("p.yaml"), "web_proxy_addr: p\nuser: alice\n");
        for (name, part) in *files {
            write(&folder.path().join(name), text(*part, 0));
        }
        prop_assert_eq!(issued(&read(&source).unwrap()), 0);
        let mut last = 0;
        for (n, (file, byte)) in (1_u8..).zip(&stops) {
            let stop = file.index(files.len());
            for (at, (name, part)) in files.iter().enumerate() {
                let (path, whole) = (folder.path().join(name), text(*part, n));
                if at == stop {
                    fs::write(&path, &whole[..byte.index(whole.len())]).unwrap();
                    if let Ok(identity) = read(&source) {
                        let seen = issued(&identity);
                        prop_assert!(seen == n || seen == last, "{} after {}: {}", n, last, seen);
                    }
                }
                fs::write(&path, whole).unwrap();
                if let Ok(identity) = read(&source) {
                    let seen = issued(&identity);
                    prop_assert!(seen == n || seen == last, "{} after {}: {}", n, last, seen);
                }
            }
            prop_assert_eq!(issued(&read(&source).unwrap()), n, "once all is written, all is read");
            last = n;
        }
    }
}
