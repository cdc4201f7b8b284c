//! Which algorithms are offered in the key exchange, and in which order.
//!
//! Pure. A list that the user set holds, as far as the library has what it names; where it has nothing of a list,
//! the real ssh may.

use super::host_key::Expected;
use crate::pattern::glob_matches;
use crate::target::Algorithms;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, kex, mac};
use std::borrow::Cow;

/// The order in the library's words.
///
/// The kinds of host key that are expected come first, as in ssh (sshconnect2.c, order_hostkeyalgs), unless the
/// user orders them: the server has several, and shows the one that is asked for. Certificates come before keys
/// where an authority is known or nothing is, and SHA-1 RSA last: it is taken only from a server that has nothing
/// else. AES-GCM first, as machines have it in hardware.
///
/// # Errors
/// The name of the list that the library has nothing of.
pub(super) fn preferred(expected: &Expected, wanted: &Algorithms) -> Result<Preferred, &'static str> {
    let (key, host_key_certificates) = host_keys(expected, &wanted.host_keys)?;
    let mut preferred = Preferred {
        key,
        host_key_certificates,
        cipher: vec![
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
        .into(),
        ..Preferred::DEFAULT
    };
    if let Some(mut methods) = known("KexAlgorithms", &wanted.key_exchange, |name| kex::Name::try_from(name))?
    {
        // Extensions go in the same list (RFC 8308; OpenSSH's PROTOCOL, 1.10).
        methods.extend([kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT]);
        preferred.kex = methods.into();
    }
    if let Some(ciphers) = known("Ciphers", &wanted.ciphers, |name| cipher::Name::try_from(name))? {
        preferred.cipher = ciphers.into();
    }
    if let Some(macs) = known("MACs", &wanted.macs, |name| mac::Name::try_from(name))? {
        preferred.mac = macs.into();
    }
    Ok(preferred)
}

/// The hashes that `PubkeyAcceptedAlgorithms` lets an RSA key sign with, the best first; none where it says nothing.
pub(super) fn rsa_hashes(wanted: &Algorithms) -> Vec<HashAlg> {
    let hashes = [("rsa-sha2-512", HashAlg::Sha512), ("rsa-sha2-256", HashAlg::Sha256)];
    let accepted = |name: &str| wanted.public_keys.iter().any(|pattern| glob_matches(pattern, name));
    hashes.into_iter().filter(|(name, _)| accepted(name)).map(|(_, hash)| hash).collect()
}

/// What of a list there is; none of an empty list, which is natssh's to fill.
fn known<N, E>(
    list: &'static str,
    wanted: &[String],
    find: impl Fn(&str) -> Result<N, E>,
) -> Result<Option<Vec<N>>, &'static str> {
    if wanted.is_empty() {
        return Ok(None);
    }
    // The library has these two for itself: they protect nothing.
    let safe = wanted.iter().filter(|name| *name != "none" && *name != "clear");
    let found: Vec<N> = safe.filter_map(|name| find(name).ok()).collect();
    if found.is_empty() { Err(list) } else { Ok(Some(found)) }
}

type HostKeys = Cow<'static, [Algorithm]>;

/// Plain keys, and certificates.
fn host_keys(expected: &Expected, wanted: &[String]) -> Result<(HostKeys, HostKeys), &'static str> {
    let rsa = |hash| Algorithm::Rsa { hash };
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let all = vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(Some(HashAlg::Sha512)),
        rsa(Some(HashAlg::Sha256)),
        rsa(None),
    ];
    if !wanted.is_empty() {
        let named = |name: fn(&Algorithm) -> String| -> Vec<Algorithm> {
            wanted.iter().filter_map(|one| all.iter().find(|kind| name(kind) == *one)).cloned().collect()
        };
        let (keys, certificates) = (named(ToString::to_string), named(Algorithm::to_certificate_type));
        if keys.is_empty() && certificates.is_empty() {
            return Err("HostKeyAlgorithms");
        }
        return Ok((keys.into(), certificates.into()));
    }
    let (mut keys, mut certificates) = (all.clone(), all);
    let is_known = |kind: &Algorithm| match kind {
        // A known RSA key says nothing of the hash to sign with.
        Algorithm::Rsa { .. } => expected.keys.iter().any(|known| matches!(known, Algorithm::Rsa { .. })),
        other => expected.keys.contains(other),
    };
    keys.sort_by_key(|kind| !is_known(kind));
    if !expected.certificate && !expected.keys.is_empty() {
        // Only a certificate's bare key could be recognised.
        certificates.retain(is_known);
    }
    Ok((keys.into(), certificates.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<N: AsRef<str>>(names: &[N]) -> Vec<&str> {
        names.iter().map(AsRef::as_ref).collect()
    }

    fn list(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_list_of_the_users_holds_as_far_as_it_can_in_its_order() {
        let wanted = Algorithms {
            key_exchange: list("sntrup761x25519-sha512@openssh.com,ecdh-sha2-nistp256,curve25519-sha256"),
            ciphers: list("aes256-ctr,none,arcfour,aes128-gcm@openssh.com"),
            macs: list("umac-64@openssh.com,hmac-sha2-256"),
            host_keys: list("rsa-sha2-256,ssh-ed25519-cert-v01@openssh.com,ssh-ed25519"),
            ..Algorithms::default()
        };
        let preferred = preferred(&Expected::default(), &wanted).unwrap();
        assert_eq!(names(&preferred.kex)[..2], ["ecdh-sha2-nistp256", "curve25519-sha256"]);
        assert!(names(&preferred.kex).contains(&"kex-strict-c-v00@openssh.com"));
        assert_eq!(names(&preferred.cipher), ["aes256-ctr", "aes128-gcm@openssh.com"]);
        assert_eq!(names(&preferred.mac), ["hmac-sha2-256"]);
        let keys: Vec<String> = preferred.key.iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["rsa-sha2-256", "ssh-ed25519"]);
        let certificates: Vec<String> =
            preferred.host_key_certificates.iter().map(Algorithm::to_certificate_type).collect();
        assert_eq!(certificates, ["ssh-ed25519-cert-v01@openssh.com"]);
    }

    #[test]
    fn a_list_of_which_there_is_nothing_is_named() {
        let nothing = |wanted: Algorithms| preferred(&Expected::default(), &wanted).unwrap_err();
        let unknown = || list("unknown@example.com,none");
        assert_eq!(nothing(Algorithms { key_exchange: unknown(), ..Default::default() }), "KexAlgorithms");
        assert_eq!(nothing(Algorithms { ciphers: unknown(), ..Default::default() }), "Ciphers");
        assert_eq!(nothing(Algorithms { macs: unknown(), ..Default::default() }), "MACs");
        assert_eq!(nothing(Algorithms { host_keys: unknown(), ..Default::default() }), "HostKeyAlgorithms");
    }

    #[test]
    fn the_kind_of_key_that_is_known_is_asked_for_first() {
        let expected = Expected { certificate: false, keys: vec![Algorithm::Rsa { hash: None }] };
        let preferred = preferred(&expected, &Algorithms::default()).unwrap();
        assert_eq!(preferred.key[0], Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
        assert!(preferred.host_key_certificates.iter().all(|kind| matches!(kind, Algorithm::Rsa { .. })));
    }

    #[test]
    fn an_rsa_key_signs_with_the_hashes_that_the_user_accepts() {
        let accepted = |text: &str| rsa_hashes(&Algorithms { public_keys: list(text), ..Default::default() });
        assert_eq!(accepted("ssh-ed25519,rsa-sha2-256"), [HashAlg::Sha256]);
        assert_eq!(accepted("rsa-*"), [HashAlg::Sha512, HashAlg::Sha256]);
        assert_eq!(rsa_hashes(&Algorithms::default()), []);
    }
}
