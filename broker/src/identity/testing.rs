//! Keys, certificates and folders for tests.

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData};
use ssh_key::{Certificate, LineEnding, PrivateKey};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The moment at which the tests take place.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A key that is the same each time.
pub(crate) fn ed25519(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// Another kind of key that is the same each time.
pub(crate) fn ecdsa(seed: u8) -> PrivateKey {
    let secret = p256::SecretKey::from_slice(&[seed; 32]).unwrap();
    let pair = EcdsaKeypair::NistP256 { public: secret.public_key().into(), private: secret.into() };
    PrivateKey::new(KeypairData::Ecdsa(pair), "").unwrap()
}

/// A certificate under construction: valid an hour to each side of [`NOW`], signed by `ed25519(200)`.
pub(crate) fn builder(key: &PrivateKey, kind: CertType, principals: &[&str]) -> Builder {
    let mut builder = Builder::new(*b"0123456789abcdef", key.public_key(), NOW - 3600, NOW + 3600).unwrap();
    builder.cert_type(kind).unwrap();
    if principals.is_empty() {
        builder.all_principals_valid().unwrap();
    }
    for principal in principals {
        builder.valid_principal(*principal).unwrap();
    }
    builder
}

/// The authority that signs in tests.
pub(crate) fn authority() -> PrivateKey {
    ed25519(200)
}

/// A user's certificate as Teleport makes it.
pub(crate) fn user_certificate(key: &PrivateKey, user: &str, logins: &[&str]) -> Certificate {
    let mut principals = logins.to_vec();
    principals.push("-teleport-internal-join");
    let mut builder = builder(key, CertType::User, &principals);
    builder.key_id(user).unwrap();
    builder.extension("permit-pty", "").unwrap();
    builder.extension("teleport-roles", r#"{"version":"v1","roles":["access"]}"#).unwrap();
    builder.extension("teleport-route-to-cluster", "example").unwrap();
    builder.sign(&authority()).unwrap()
}

/// A host's certificate.
pub(crate) fn host_certificate(key: &PrivateKey, principals: &[&str]) -> Certificate {
    builder(key, CertType::Host, principals).sign(&authority()).unwrap()
}

/// As it stands in an OpenSSH file.
pub(crate) fn pem(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// `type base64`.
pub(crate) fn public_line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap().trim().to_owned()
}

/// Writes a file and the folders above it; a secret is for its owner alone, as tsh leaves it.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs the real ssh-keygen and gives its output, whatever its exit status.
pub(crate) fn ssh_keygen<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> String {
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .output()
        .expect("ssh-keygen, of OpenSSH's client, is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
