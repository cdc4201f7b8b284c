//! Private keys in every form that ssh-keygen, tsh, tctl and tbot write.
//!
//! Pure. PEM blocks: PKCS#1 (RSA keys of every tsh), OpenSSH's own (tsh since 17,
//! whose keys are Ed25519 or ECDSA), PKCS#8 and SEC 1 (ssh-keygen, OpenSSL). A key
//! with a passphrase is recognised and not decrypted: nobody is there to ask, and
//! the agent is made for it. So is a reference to a key in hardware.

use super::error::FileFault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// The first private key in a text.
///
/// # Errors
/// `Encrypted`, `Hardware`, `Piv`, or `Garbage` with a reason.
pub(super) fn parse(text: &str) -> Result<PrivateKey, FileFault> {
    let block = Block::first_private_key(text)?;
    let keypair = match block.label {
        "OPENSSH PRIVATE KEY" => return parse_openssh(&block.decode()?),
        "ENCRYPTED PRIVATE KEY" => return Err(FileFault::Encrypted),
        // "PIV YUBIKEY PRIVATE KEY", since Teleport 11: serial number and slot in place of a key.
        label if label.starts_with("PIV ") => return Err(FileFault::Piv),
        // OpenSSL's old way: headers inside the block say how it is encrypted.
        _ if block.body.contains("ENCRYPTED") => return Err(FileFault::Encrypted),
        "RSA PRIVATE KEY" | "PRIVATE KEY" | "EC PRIVATE KEY" => parse_der(&block.decode()?),
        label => return Err(garbage(format!("{label:?} is a kind of key that natssh does not know"))),
    };
    let keypair = keypair.ok_or_else(|| garbage(format!("the {:?} in it is damaged", block.label)))?;
    PrivateKey::new(keypair, "").map_err(|error| garbage(error.to_string()))
}

/// The public half, where a text shows it beside a private one that cannot be read: OpenSSH's own form does.
#[must_use]
pub(super) fn public_half(text: &str) -> Option<PublicKey> {
    let block = Block::first_private_key(text).ok().filter(|block| block.label == "OPENSSH PRIVATE KEY")?;
    PrivateKey::from_bytes(&block.decode().ok()?).ok().map(|key| key.public_key().clone())
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

/// Whichever form it is: Teleport and OpenSSL have both put PKCS#8 under the
/// label of PKCS#1, and the other way round (api/utils/keys, `ParsePrivateKey`).
fn parse_der(der: &[u8]) -> Option<KeypairData> {
    let pkcs1 = || rsa::RsaPrivateKey::from_pkcs1_der(der).ok().and_then(rsa_keypair);
    parse_pkcs8(der).or_else(pkcs1).or_else(|| parse_sec1(der))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::{ed25519, ssh_keygen};
    use proptest::prelude::*;
    use std::fs;

    /// A key by the real ssh-keygen: what it wrote, and the public half that it says.
    fn generate(kind: &str, bits: &str, format: &str, passphrase: &str) -> (String, PublicKey) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let name = path.to_str().unwrap();
        let made = ssh_keygen(["-q", "-t", kind, "-b", bits, "-m", format, "-N", passphrase, "-f", name]);
        assert_eq!(made, "");
        let public = PublicKey::read_openssh_file(folder.path().join("id.pub")).unwrap();
        (fs::read_to_string(&path).unwrap(), public)
    }

    #[test]
    fn every_form_that_ssh_keygen_writes_is_read() {
        for (kind, bits, format, label) in [
            ("ed25519", "256", "RFC4716", "OPENSSH PRIVATE KEY"),
            ("rsa", "2048", "RFC4716", "OPENSSH PRIVATE KEY"),
            ("rsa", "2048", "PEM", "RSA PRIVATE KEY"),
            ("rsa", "2048", "PKCS8", "PRIVATE KEY"),
            ("ecdsa", "256", "RFC4716", "OPENSSH PRIVATE KEY"),
            ("ecdsa", "256", "PEM", "EC PRIVATE KEY"),
            ("ecdsa", "384", "PEM", "EC PRIVATE KEY"),
            ("ecdsa", "521", "PEM", "EC PRIVATE KEY"),
            ("ecdsa", "256", "PKCS8", "PRIVATE KEY"),
            ("ecdsa", "384", "PKCS8", "PRIVATE KEY"),
            ("ecdsa", "521", "PKCS8", "PRIVATE KEY"),
        ] {
            let (text, public) = generate(kind, bits, format, "");
            assert!(text.starts_with(&format!("-----BEGIN {label}-----")), "{kind} {format}: {text}");
            let key = parse(&text).unwrap_or_else(|fault| panic!("{kind} {bits} {format}: {fault}"));
            assert_eq!(key.public_key().key_data(), public.key_data(), "{kind} {bits} {format}");
        }
    }

    #[test]
    fn a_label_that_names_another_form_misleads_nobody() {
        let labels = ["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"];
        for (kind, bits, format) in
            [("rsa", "2048", "PEM"), ("rsa", "2048", "PKCS8"), ("ecdsa", "256", "PEM")]
        {
            let (text, public) = generate(kind, bits, format, "");
            let written = text.split("-----").nth(1).unwrap().strip_prefix("BEGIN ").unwrap();
            for label in labels {
                let key = parse(&text.replace(written, label)).unwrap();
                assert_eq!(key.public_key().key_data(), public.key_data(), "{written} as {label}");
            }
        }
    }

    #[test]
    fn an_ed25519_key_in_pkcs8_is_read() {
        // RFC 8410, section 7: this prefix, then the 32 bytes.
        let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &[9; 32]]
            .concat();
        let text =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der));
        assert_eq!(parse(&text).unwrap().public_key().key_data(), ed25519(9).public_key().key_data());
    }

    #[test]
    fn a_passphrase_is_noticed_in_every_form() {
        for (kind, bits, format) in [
            ("ed25519", "256", "RFC4716"),
            ("rsa", "2048", "PEM"),
            ("rsa", "2048", "PKCS8"),
            ("ecdsa", "256", "PEM"),
        ] {
            let (text, _) = generate(kind, bits, format, "correct horse");
            assert_eq!(parse(&text).unwrap_err(), FileFault::Encrypted, "{kind} {format}");
        }
    }

    #[test]
    fn the_first_key_counts_whatever_stands_before_it() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let pem = |seed| crate::identity::testing::pem(&ed25519(seed));
        let text = format!("{certificate}{}{}", pem(1), pem(2));
        assert_eq!(parse(&text).unwrap().public_key(), ed25519(1).public_key());
    }

    #[test]
    fn a_key_cut_short_anywhere_is_garbage() {
        let whole = crate::identity::testing::pem(&ed25519(1));
        for end in 0..whole.trim_end().len() - "-----END OPENSSH PRIVATE KEY-----".len() {
            assert!(matches!(parse(&whole[..end]), Err(FileFault::Garbage { .. })), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(label in "(OPENSSH|RSA|EC|ENCRYPTED|PIV|DSA)? ?PRIVATE KEY", body in "[A-Za-z0-9+/=\\n]{0,200}") {
            let _ = parse(&format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
        }
    }
}
