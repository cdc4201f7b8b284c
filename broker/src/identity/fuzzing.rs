//! What the readers of keys, certificates, profiles and agents keep to. See [`crate::fuzzing`].

use super::agent::{decode, key_of};
use super::file::authorities_in;
use super::keys::{first_certificate, parse_key};
use super::lifetime::{Lifetime, Validity};
use super::tsh::Profile;
use crate::fuzzing::is_one_line;
use crate::known_hosts::{Dialect, KnownHosts};
use crate::ssh::host_key::{Names, Presented, Sha1, Verdict, verify};
use ssh_key::{Certificate, LineEnding, PublicKey};
use std::path::Path;

/// Within the life of the seeds' certificates, which end in 2100.
const NOW: u64 = 1_800_000_000;

/// A certificate, as a line of a file or as an agent's bytes: whatever its fields hold, they can be read and judged.
pub fn certificate(bytes: &[u8]) {
    judge(Certificate::from_bytes(bytes).ok().as_ref());
    if let Some(Ok(certificate)) = first_certificate(&String::from_utf8_lossy(bytes)) {
        judge(Some(&*certificate));
    }
}

fn judge(certificate: Option<&Certificate>) {
    let Some(certificate) = certificate else { return };
    let lifetime = Lifetime::of_certificate(certificate);
    for now in [0, NOW, u64::MAX] {
        let within = certificate.valid_after() <= now
            && (now < certificate.valid_before() || certificate.valid_before() == u64::MAX);
        let good = matches!(lifetime.at(now), Validity::Valid | Validity::Expiring { .. });
        assert_eq!(good, within, "at {now}");
    }
    // Trusted by its own authority, so that everything else about it is looked at.
    let authority = PublicKey::from(certificate.signature_key().clone());
    let Ok(authority) = authority.to_openssh() else { return };
    let trust = KnownHosts::parse(&format!("@cert-authority * {authority}"), "known_hosts", Dialect::OpenSsh);
    let names = Names::new("web.example.com", 22).with_teleport_role("Proxy");
    for sha1 in [Sha1::Refused, Sha1::Allowed] {
        match verify(&trust, &names, Presented::Certificate(certificate), NOW, sha1) {
            Ok(verdict) => {
                assert!(matches!(verdict, Verdict::Certificate { .. }));
                assert!(certificate.cert_type().is_host() && certificate.verify_signature().is_ok());
                assert!(certificate.critical_options().is_empty());
            }
            Err(error) => is_one_line(&error.to_failure().message),
        }
    }
}

/// A key or an identity file: a key that is understood is the same when it is written and read again.
pub fn identity_file(bytes: &[u8]) {
    if let Ok(key) = parse_key(bytes)
        && let Ok(written) = key.to_openssh(LineEnding::LF)
    {
        let again = parse_key(written.as_bytes()).expect("what ssh-key wrote is read");
        assert_eq!(again.public_key().key_data(), key.public_key().key_data());
    }
    let text = String::from_utf8_lossy(bytes);
    judge(first_certificate(&text).and_then(Result::ok).as_deref());
    let authorities = authorities_in(&text, Path::new("identity"));
    for line in authorities.lines() {
        let written = text.lines().nth(line.origin.line - 1);
        assert!(written.is_some_and(|written| written.starts_with('@')), "{}", line.origin);
    }
}

/// A profile of tsh: one that is understood says where to dial, and as whom.
pub fn tsh_profile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Profile::parse(&text, "proxy.example.com") {
        Ok(profile) => {
            assert!(!profile.user.is_empty() && !profile.cluster.is_empty());
            assert!(!profile.web_proxy_addr.is_empty() && !profile.ssh_proxy_addr.is_empty());
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    }
}

/// The list of keys that an agent answers with.
pub fn agent_answer(bytes: &[u8]) {
    let Some(blobs) = decode(bytes) else { return };
    assert!(blobs.iter().map(|blob| blob.len()).sum::<usize>() < bytes.len());
    for key in blobs.into_iter().filter_map(key_of) {
        judge(key.certificate());
    }
}
