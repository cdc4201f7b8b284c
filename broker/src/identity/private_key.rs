//! Private keys in every form that ssh-keygen, tsh, tctl and tbot write.
//!
//! Pure. PEM blocks: OpenSSH's own, PKCS#1 (tsh up to Teleport 16), PKCS#8
//! (tsh since 17 and OpenSSL), SEC 1. A key with a passphrase is recognised and
//! not decrypted: nobody is there to ask, and the agent is made for it.

use super::error::FileFault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use ssh_key::PrivateKey;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use zeroize::Zeroizing;

/// The first private key in a text.
///
/// # Errors
/// `Encrypted`, `Hardware`, or `Garbage` with a reason.
pub(super) fn parse(text: &str) -> Result<PrivateKey, FileFault> {
    let block = Block::first_private_key(text)?;
    let keypair = match block.label {
        "OPENSSH PRIVATE KEY" => return parse_openssh(&block.decode()?),
        "ENCRYPTED PRIVATE KEY" => return Err(FileFault::Encrypted),
        label if label.contains("PIV") => return Err(FileFault::Hardware),
        // OpenSSL's old way: headers inside the block say how it is encrypted.
        _ if block.body.contains("ENCRYPTED") => return Err(FileFault::Encrypted),
        "RSA PRIVATE KEY" => rsa::RsaPrivateKey::from_pkcs1_der(&block.decode()?).ok().and_then(rsa_keypair),
        "PRIVATE KEY" => parse_pkcs8(&block.decode()?),
        "EC PRIVATE KEY" => parse_sec1(&block.decode()?),
        label => return Err(garbage(format!("{label:?} is a kind of key that natssh does not know"))),
    };
    let keypair = keypair.ok_or_else(|| garbage(format!("the {:?} in it is damaged", block.label)))?;
    PrivateKey::new(keypair, "").map_err(|error| garbage(error.to_string()))
}

/// What stands between `-----BEGIN label-----` and `-----END label-----`.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl<'a> Block<'a> {
    fn first_private_key(text: &'a str) -> Result<Self, FileFault> {
        let mut rest = text;
        while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
            let Some((label, after)) = begun.split_once("-----") else { break };
            if !label.ends_with("PRIVATE KEY") {
                rest = after;
                continue;
            }
            let Some((body, _)) = after.split_once("-----END ") else {
                return Err(garbage(format!("the {label:?} in it has no end")));
            };
            return Ok(Self { label, body });
        }
        Err(garbage(match text {
            text if text.trim().is_empty() => "it is empty".into(),
            text if text.starts_with("PuTTY-User-Key-File") => {
                "it is a PuTTY key; puttygen -O private-openssh converts it".into()
            }
            text if text.starts_with("ssh-") || text.starts_with("ecdsa-") => "it holds a public key".into(),
            _ => "there is no private key in it".into(),
        }))
    }

    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, FileFault> {
        let mut base64 = Zeroizing::new(String::with_capacity(self.body.len()));
        base64.extend(self.body.chars().filter(|c| !c.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(Vec::with_capacity(base64.len()));
        match BASE64.decode_vec(base64.as_bytes(), &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(garbage(format!("the {:?} in it is damaged", self.label))),
        }
    }
}

fn parse_openssh(bytes: &[u8]) -> Result<PrivateKey, FileFault> {
    let key = PrivateKey::from_bytes(bytes)
        .map_err(|error| garbage(format!("the private key in it is damaged ({error})")))?;
    match key.key_data() {
        _ if key.is_encrypted() => Err(FileFault::Encrypted),
        KeypairData::SkEd25519(_) | KeypairData::SkEcdsaSha2NistP256(_) => Err(FileFault::Hardware),
        KeypairData::Rsa(_) | KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => Ok(key),
        _ => Err(garbage(format!("{} keys are not supported; use RSA, Ed25519 or ECDSA", key.algorithm()))),
    }
}

fn parse_pkcs8(der: &[u8]) -> Option<KeypairData> {
    if let Ok(key) = rsa::RsaPrivateKey::from_pkcs8_der(der) {
        return rsa_keypair(key);
    }
    if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_der(der) {
        return Some(KeypairData::Ed25519(Ed25519Keypair::from(key)));
    }
    if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
        return Some(p256_keypair(key));
    }
    if let Ok(key) = p384::SecretKey::from_pkcs8_der(der) {
        return Some(p384_keypair(key));
    }
    p521::SecretKey::from_pkcs8_der(der).ok().map(p521_keypair)
}

fn parse_sec1(der: &[u8]) -> Option<KeypairData> {
    if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
        return Some(p256_keypair(key));
    }
    if let Ok(key) = p384::SecretKey::from_sec1_der(der) {
        return Some(p384_keypair(key));
    }
    p521::SecretKey::from_sec1_der(der).ok().map(p521_keypair)
}

fn rsa_keypair(key: rsa::RsaPrivateKey) -> Option<KeypairData> {
    RsaKeypair::try_from(key).ok().map(KeypairData::Rsa)
}

fn p256_keypair(key: p256::SecretKey) -> KeypairData {
    KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public: key.public_key().into(), private: key.into() })
}

fn p384_keypair(key: p384::SecretKey) -> KeypairData {
    KeypairData::Ecdsa(EcdsaKeypair::NistP384 { public: key.public_key().into(), private: key.into() })
}

fn p521_keypair(key: p521::SecretKey) -> KeypairData {
    KeypairData::Ecdsa(EcdsaKeypair::NistP521 { public: key.public_key().into(), private: key.into() })
}

fn garbage(why: String) -> FileFault {
    FileFault::Garbage { expected: "private key", why }
}
