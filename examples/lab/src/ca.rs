//! The lab's certificate authority: it signs what a Teleport cluster's
//! authorities sign, and its submodules write the files that `tsh login`,
//! `tctl auth sign` and `tbot` would have written.
//!
//! A cluster has three authorities: one signs users, one signs hosts, one signs
//! what hosts show in TLS. All are kept in a folder, so that the lab's commands, each a process of its own,
//! speak for the same cluster.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use russh::keys::signature::{self, Signer};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::getrandom::SysRng;
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::public::KeyData;
use ssh_key::rand_core::{Rng, UnwrapErr};
use ssh_key::{Algorithm, Certificate, EcdsaCurve, LineEnding, PrivateKey, PublicKey, Signature};

pub mod identity_file;
mod issue;
pub mod openssh;
pub mod tbot;
pub(crate) mod tls;
pub mod tsh;

pub use issue::{HostRequest, UserRequest, Validity};
use tls::TlsAuthority;

/// The kinds of key that clusters of different ages use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA 2048: the only kind before Teleport 17, and what old clusters must have.
    Rsa,
    /// Ed25519: the default of Teleport 17 for hosts and users.
    Ed25519,
    /// ECDSA on P-256: the FIPS-friendly choice of Teleport 17.
    Ecdsa,
}

impl KeyKind {
    /// A fresh key of this kind. RSA takes tenths of a second.
    ///
    /// # Errors
    /// When the numbers drawn make no key, which does not happen.
    pub fn generate(self) -> Result<PrivateKey> {
        let mut rng = random();
        let key = match self {
            Self::Rsa => {
                RsaKeypair::random(&mut rng, 2048).map(PrivateKey::from).context("make an RSA key")?
            }
            Self::Ed25519 => PrivateKey::random(&mut rng, Algorithm::Ed25519)?,
            Self::Ecdsa => {
                let curve = EcdsaCurve::NistP256;
                PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve })?
            }
        };
        Ok(key)
    }
}

/// A key and the certificate that an authority signed for it.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The private key.
    pub key: PrivateKey,
    /// The certificate over its public half.
    pub certificate: Certificate,
}

/// The authorities of one cluster.
#[derive(Clone, Debug)]
pub struct Authority {
    cluster: String,
    kind: KeyKind,
    user_ca: PrivateKey,
    host_ca: PrivateKey,
    tls: TlsAuthority,
    signing: Signing,
}

/// What an RSA authority signs certificates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signing {
    Sha2,
    Sha1,
}

impl Authority {
    /// A new cluster with fresh authorities; credentials it issues are of the same kind.
    ///
    /// # Errors
    /// As [`KeyKind::generate`].
    pub fn new(cluster: &str, kind: KeyKind) -> Result<Self> {
        Ok(Self {
            cluster: cluster.to_owned(),
            kind,
            user_ca: kind.generate()?,
            host_ca: kind.generate()?,
            tls: TlsAuthority::new(cluster)?,
            signing: Signing::Sha2,
        })
    }

    /// Signs with SHA-1 from now on, as RSA authorities did before Teleport 7.
    /// Today's OpenSSH refuses such certificates; [`Authority::save`] does not keep it.
    pub fn sign_with_sha1(&mut self) {
        self.signing = Signing::Sha1;
    }

    /// The cluster's name, which is also the suffix of its host names.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The kind of key that this cluster uses.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key that user certificates must be signed by: what `TrustedUserCAKeys` holds.
    pub fn user_ca(&self) -> &PublicKey {
        self.user_ca.public_key()
    }

    /// The key that host certificates must be signed by: what `@cert-authority` names.
    pub fn host_ca(&self) -> &PublicKey {
        self.host_ca.public_key()
    }

    /// The authority for TLS.
    pub(crate) fn tls(&self) -> &TlsAuthority {
        &self.tls
    }

    /// What the proxy's web pages, or a load balancer before it, show.
    pub fn web_certificate(&self) -> &str {
        self.tls.web_pem()
    }

    /// Replaces all authorities, as a completed CA rotation does. Nothing that
    /// was issued before is trusted after.
    ///
    /// # Errors
    /// As [`KeyKind::generate`].
    pub fn rotate(&mut self) -> Result<()> {
        *self = Self::new(&self.cluster, self.kind)?;
        Ok(())
    }

    /// Replaces the authority for hosts alone: who trusted the former one
    /// trusts neither proxy nor nodes.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn replace_host_ca(&mut self) -> Result<()> {
        self.host_ca = self.kind.generate()?;
        self.tls = TlsAuthority::new(&self.cluster)?;
        Ok(())
    }

    /// Makes a key and signs it for a user.
    ///
    /// # Errors
    /// When the request cannot be put in a certificate: an empty list of logins.
    pub fn issue_user(&self, request: &UserRequest) -> Result<Credential> {
        self.sign_user(request, self.kind.generate()?)
    }

    /// Signs a key that exists already, as a renewal does.
    ///
    /// # Errors
    /// As [`Authority::issue_user`].
    pub fn sign_user(&self, request: &UserRequest, key: PrivateKey) -> Result<Credential> {
        let mut builder = new_certificate(&key, request.validity)?;
        builder.cert_type(CertType::User)?.key_id(&request.user)?;
        for login in &request.logins {
            builder.valid_principal(login)?;
        }
        for (name, value) in request.extensions(&self.cluster) {
            builder.extension(name, value)?;
        }
        self.sign(builder, key, &self.user_ca)
            .with_context(|| format!("sign a certificate for user {}", request.user))
    }

    /// Makes a key and signs it for a host.
    ///
    /// # Errors
    /// When the request cannot be put in a certificate.
    pub fn issue_host(&self, request: &HostRequest) -> Result<Credential> {
        self.sign_host(request, self.kind.generate()?)
    }

    /// Signs a host's key, of any kind.
    ///
    /// # Errors
    /// As [`Authority::issue_host`].
    pub fn sign_host(&self, request: &HostRequest, key: PrivateKey) -> Result<Credential> {
        let mut builder = new_certificate(&key, request.validity)?;
        builder.cert_type(CertType::Host)?;
        for principal in request.principals(&self.cluster) {
            builder.valid_principal(principal)?;
        }
        builder.extension("x-teleport-authority", &self.cluster)?;
        builder.extension("x-teleport-role", request.role)?;
        self.sign(builder, key, &self.host_ca)
            .with_context(|| format!("sign a certificate for host {}", request.hostname))
    }

    /// The known_hosts line of clusters since 7.0, `@cert-authority PROXY,CLUSTER,*.CLUSTER KEY`.
    pub fn known_hosts(&self, proxy_host: &str) -> String {
        format!(
            "@cert-authority {proxy_host},{cluster},*.{cluster} {key} type=host\n",
            cluster = self.cluster,
            key = bare(self.host_ca())
        )
    }

    /// The line that tsh wrote before 7.0: a bare key that means an authority.
    pub fn known_hosts_before_7(&self) -> String {
        format!("{} {}\n", self.cluster, bare(self.host_ca()))
    }

    fn sign(&self, builder: Builder, key: PrivateKey, ca: &PrivateKey) -> Result<Credential> {
        let certificate = match (self.signing, ca.key_data()) {
            (Signing::Sha1, KeypairData::Rsa(pair)) => builder.sign(&Sha1(pair))?,
            _ => builder.sign(ca)?,
        };
        Ok(Credential { key, certificate })
    }

    /// Writes the authorities into `folder`, created when missing.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        write_public(&folder.join("cluster"), &self.cluster)?;
        write_key(&folder.join("user_ca"), &self.user_ca)?;
        write_key(&folder.join("host_ca"), &self.host_ca)?;
        let line = |key: &PublicKey| format!("{}\n", bare(key));
        write_public(&folder.join("user_ca.pub"), &line(self.user_ca()))?;
        write_public(&folder.join("host_ca.pub"), &line(self.host_ca()))?;
        self.tls.save(folder)
    }

    /// Reads what [`Authority::save`] wrote.
    ///
    /// # Errors
    /// When a file is missing or is not a key.
    pub fn load(folder: &Path) -> Result<Self> {
        let key = |name: &str| {
            let path = folder.join(name);
            PrivateKey::read_openssh_file(&path)
                .with_context(|| format!("read the authority {}", path.display()))
        };
        let user_ca = key("user_ca")?;
        let kind = match user_ca.algorithm() {
            Algorithm::Rsa { .. } => KeyKind::Rsa,
            Algorithm::Ecdsa { .. } => KeyKind::Ecdsa,
            _ => KeyKind::Ed25519,
        };
        Ok(Self {
            cluster: fs::read_to_string(folder.join("cluster"))
                .with_context(|| format!("read {}/cluster", folder.display()))?,
            kind,
            user_ca,
            host_ca: key("host_ca")?,
            tls: TlsAuthority::load(folder)?,
            signing: Signing::Sha2,
        })
    }
}

/// The two words of a public key line, without its comment.
pub(crate) fn bare(key: &PublicKey) -> String {
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .expect("a key that was made or parsed here can be encoded")
        .trim_end()
        .to_owned()
}

/// Writes a secret: mode 0600, the old content replaced in place as Teleport does.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    write(path, text, 0o600)
}

/// Writes what everyone may read.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<()> {
    write(path, text, 0o644)
}

/// Writes a private key in OpenSSH's own format, mode 0600.
pub(crate) fn write_key(path: &Path, key: &PrivateKey) -> Result<()> {
    write_secret(path, &key.to_openssh(LineEnding::LF)?)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

/// The system's randomness; it ends the process where there is none.
fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn new_certificate(key: &PrivateKey, validity: Validity) -> Result<Builder> {
    let mut nonce = vec![0; Builder::RECOMMENDED_NONCE_SIZE];
    random().fill_bytes(&mut nonce);
    let subject = key.public_key().key_data().clone();
    let (after, before) = validity.seconds();
    Ok(Builder::new(nonce, subject, after, before)?)
}

/// An RSA key that signs with SHA-1.
struct Sha1<'a>(&'a RsaKeypair);

impl Signer<Signature> for Sha1<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        (self.0, None).try_sign(message)
    }
}

impl From<&Sha1<'_>> for KeyData {
    fn from(key: &Sha1<'_>) -> Self {
        KeyData::Rsa(key.0.public().clone())
    }
}
