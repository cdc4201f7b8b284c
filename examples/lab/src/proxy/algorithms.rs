//! The algorithms and settings of the proxy's SSH server, by its face.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use super::Face;
use crate::ca::Credential;

/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// The server's settings: Go's windows and packets, and queues long enough that
/// the library's loop does not wait for one channel while others have work.
pub(super) fn config(face: Face, host: &Credential, keepalive: Duration) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Teleport")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::ZERO,
        keys: vec![host.key.clone()],
        certificates: vec![host.certificate.clone()],
        window_size: 64 * 32 * 1024,
        maximum_packet_size: 32 * 1024,
        event_buffer_size: 256,
        preferred: preferred(face),
        max_auth_attempts: 6,
        inactivity_timeout: Some(IDLE),
        keepalive_interval: Some(keepalive),
        keepalive_max: 3,
        nodelay: true,
        ..Config::default()
    }
}

/// What is offered in the key exchange, in Go's order.
fn preferred(face: Face) -> Preferred {
    let kex = match face {
        Face::Old => vec![
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
        ],
        Face::New => vec![
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ],
    };
    let ciphers = [
        cipher::AES_128_GCM,
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_128_CTR,
        cipher::AES_192_CTR,
        cipher::AES_256_CTR,
    ];
    // Teleport 7 had no 256-bit GCM.
    let known = |name: &cipher::Name| face == Face::New || *name != cipher::AES_256_GCM;
    Preferred {
        kex: Cow::Owned(kex),
        key: Cow::Owned(signatures(face)),
        cipher: Cow::Owned(ciphers.into_iter().filter(known).collect()),
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA256]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

/// The signatures it makes and takes. Host keys are offered by those of them
/// that the host has, users may use any.
fn signatures(face: Face) -> Vec<Algorithm> {
    let rsa = |hash| Algorithm::Rsa { hash };
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    match face {
        Face::Old => vec![rsa(None)],
        Face::New => vec![
            Algorithm::Ed25519,
            ecdsa(EcdsaCurve::NistP256),
            ecdsa(EcdsaCurve::NistP384),
            ecdsa(EcdsaCurve::NistP521),
            rsa(Some(HashAlg::Sha512)),
            rsa(Some(HashAlg::Sha256)),
        ],
    }
}

/// Whether a user may sign with this algorithm.
pub(super) fn takes(face: Face, algorithm: &Algorithm) -> bool {
    match (face, algorithm) {
        (Face::Old, Algorithm::Rsa { hash }) => hash.is_none(),
        // What came before SHA-2 was not widened by what came after.
        (Face::Old, _) => !matches!(algorithm, Algorithm::Other(_)),
        (Face::New, _) => true,
    }
}
