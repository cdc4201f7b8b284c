//! The same files, keys and certificates judged by the real ssh(1), which has to agree.
//!
//! Two hundred cases from a fixed seed. For each, OpenSSH's own server shows
//! the key to OpenSSH's own client, which says what it thinks of it before
//! anybody logs in. Where natssh means to differ, the difference has a name
//! here and a reason in docs/host-keys.md; any other difference is an error.

mod cases;
mod openssh;

use super::{HostKeyError, Names, Presented, Sha1, Verdict, verify};
use crate::known_hosts::{Dialect, KnownHosts, Marker, lookup_name};
use cases::{Case, Shown};
use openssh::OpenSsh;
use ssh_key::{Certificate, PublicKey};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const CASES: usize = 240;
/// Connections at a time: each is two processes that compute.
const AT_ONCE: usize = 4;

/// A difference that is meant, by the name it has in docs/host-keys.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meant {
    RevokedForTheBareHost,
    KeyOfTheBareHostExcusesNothing,
    NoPrincipals,
    PrincipalPattern,
    PrincipalInCapitals,
    TabAfterMarker,
}

impl Meant {
    const ALL: [Self; 6] = [
        Self::RevokedForTheBareHost,
        Self::KeyOfTheBareHostExcusesNothing,
        Self::NoPrincipals,
        Self::PrincipalPattern,
        Self::PrincipalInCapitals,
        Self::TabAfterMarker,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::RevokedForTheBareHost => "revoked for the bare host, dialled on another port",
            Self::KeyOfTheBareHostExcusesNothing => "a key of the bare host, against one known of the port",
            Self::NoPrincipals => "a host certificate without principals",
            Self::PrincipalPattern => "a principal with wildcards",
            Self::PrincipalInCapitals => "a principal in capitals",
            Self::TabAfterMarker => "a marker that ends in a tab",
        }
    }

    /// The difference that explains why one believes and the other does not.
    fn explaining(case: &Case, ours: &Result<Verdict, HostKeyError>, known: &KnownHosts) -> Option<Self> {
        let principals = match &case.shown {
            Shown::Key => &[][..],
            Shown::Certificate(certificate) => &certificate.principals,
        };
        let certified = matches!(case.shown, Shown::Certificate(_));
        match ours {
            Ok(Verdict::Certificate { .. }) if principals.iter().any(|p| p.contains(['*', '?'])) => {
                Some(Self::PrincipalPattern)
            }
            Ok(Verdict::Certificate { .. }) if principals.iter().any(|p| *p != p.to_lowercase()) => {
                Some(Self::PrincipalInCapitals)
            }
            Ok(Verdict::Certificate { origin, .. }) => {
                let line = case.known_hosts.lines().nth(origin.line - 1).unwrap_or_default();
                line.trim_start().starts_with("@cert-authority\t").then_some(Self::TabAfterMarker)
            }
            Ok(Verdict::Key { .. }) => None,
            Err(HostKeyError::Revoked { .. }) if case.port != 22 => Some(Self::RevokedForTheBareHost),
            Err(HostKeyError::Revoked { .. }) => None,
            Err(_) if certified && principals.is_empty() => Some(Self::NoPrincipals),
            Err(_) => {
                let known_of_the_port =
                    known.matching(&case.host, case.port).any(|l| l.marker == Marker::Key);
                (case.port != 22 && certified && known_of_the_port)
                    .then_some(Self::KeyOfTheBareHostExcusesNothing)
            }
        }
    }
}

fn judge(
    case: &Case,
    known: &KnownHosts,
    key: &PublicKey,
    certificate: Option<&Certificate>,
) -> Result<Verdict, HostKeyError> {
    let presented = certificate.map_or(Presented::Key(key), Presented::Certificate);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    verify(known, &Names::new(&case.host, case.port), presented, now, Sha1::Refused)
}

#[test]
fn two_hundred_files_mean_what_they_mean_to_the_real_ssh() {
    let Some(openssh) = OpenSsh::find() else {
        eprintln!("SKIPPED: sshd is not installed, or root has no /run/sshd");
        return;
    };
    let cases = cases::generate(CASES, &openssh);
    let (next, believed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (unknown, meant) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<Meant, usize>::new()));
    std::thread::scope(|threads| {
        for worker in 0..AT_ONCE {
            let (cases, openssh, next, believed, unknown, meant) =
                (&cases, &openssh, &next, &believed, &unknown, &meant);
            threads.spawn(move || {
                while let Some((n, case)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|n| Some((n, cases.get(n)?)))
                {
                    let (key, certificate) = openssh.shown(case, worker);
                    let known = KnownHosts::parse(&case.known_hosts, "known_hosts", Dialect::OpenSsh);
                    let ours = judge(case, &known, &key, certificate.as_ref());
                    let theirs = openssh.believes(case, worker);
                    believed.fetch_add(usize::from(theirs), Relaxed);
                    if ours.is_ok() == theirs {
                        continue;
                    }
                    match Meant::explaining(case, &ours, &known) {
                        Some(difference) => *meant.lock().unwrap().entry(difference).or_default() += 1,
                        None => unknown
                            .lock()
                            .unwrap()
                            .push(format!("case {n}: ssh believes it: {theirs}; natssh: {ours:?}\n{case}")),
                    }
                }
            });
        }
    });
    let (unknown, believed) = (unknown.into_inner().unwrap(), believed.into_inner());
    println!("{CASES} cases, {believed} believed, meant differences: {:?}", meant.into_inner().unwrap());
    assert!(unknown.is_empty(), "{} differences without a reason\n\n{}", unknown.len(), unknown.join("\n\n"));
    assert!(
        (CASES / 5..CASES * 4 / 5).contains(&believed),
        "{believed} of {CASES} believed: that compares too little"
    );
}

/// The name under which a case is looked up.
fn lookup(case: &Case) -> String {
    lookup_name(&case.host, case.port)
}

#[test]
fn every_meant_difference_has_its_reason_in_the_documentation() {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let page = std::fs::read_to_string(std::path::Path::new(&here).join("../docs/host-keys.md")).unwrap();
    let rows: Vec<_> =
        page.lines().filter(|line| line.starts_with("| a ") || line.starts_with("| revoked")).collect();
    assert_eq!(rows.len(), Meant::ALL.len(), "{rows:#?}");
    for difference in Meant::ALL {
        let row = rows.iter().find(|row| row.starts_with(&format!("| {} |", difference.title())));
        assert!(
            row.is_some_and(|row| row.matches('|').count() == 5),
            "{:?} has no row of its own",
            difference.title()
        );
    }
}
