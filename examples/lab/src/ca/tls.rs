//! The cluster's authority for TLS: what a proxy with TLS routing shows is signed by it.
//!
//! Its keys are ECDSA on P-256, as by default since Teleport 17; RSA before is checked with the real one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{write_public, write_secret};

/// What every proxy is called beside its own names (lib/auth/auth.go, `DefaultDNSNamesForRole`, 14).
const ANY_PROXY: [&str; 2] = ["*.teleport.cluster.local", "teleport.cluster.local"];

/// An authority, and what stands beside it on the web, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct TlsAuthority {
    key: String,
    certificate: String,
    web_key: String,
    web_certificate: String,
}

impl TlsAuthority {
    /// A new one for this cluster.
    pub(crate) fn new(cluster: &str) -> Result<Self> {
        let key = KeyPair::generate().context("make a key for TLS")?;
        let certificate = params(cluster)?.self_signed(&key).context("sign the authority for TLS")?;
        let web = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
        Ok(Self {
            key: key.serialize_pem(),
            certificate: certificate.pem(),
            web_key: web.signing_key.serialize_pem(),
            web_certificate: web.cert.pem(),
        })
    }

    /// Its certificate: what `certs.pem` holds.
    pub(crate) fn pem(&self) -> &str {
        &self.certificate
    }

    /// What web pages and load balancers show: a certificate that has signed itself.
    pub(crate) fn web_pem(&self) -> &str {
        &self.web_certificate
    }

    /// What is served with it.
    pub(crate) fn web_config(&self) -> Result<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.web_certificate.as_bytes())?;
        server(&KeyPair::from_pem(&self.web_key)?, certificate)
    }

    /// What a proxy of the cluster shows where TLS is asked for its SSH listener: its host certificate, and no protocol.
    pub(crate) fn host_config(
        &self,
        cluster: &str,
        uuid: &str,
        public_names: &[&str],
    ) -> Result<ServerConfig> {
        let names = [&format!("{uuid}.{cluster}"), "localhost", "127.0.0.1", "::1"];
        let names = names.into_iter().chain(ANY_PROXY).chain(public_names.iter().copied());
        let mut host = CertificateParams::new(names.map(str::to_owned).collect::<Vec<_>>())?;
        host.distinguished_name.push(DnType::CommonName, format!("{uuid}.{cluster}"));
        host.distinguished_name.push(DnType::OrganizationName, "Proxy");
        host.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        host.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let issuer = Issuer::new(params(cluster)?, KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let certificate = host.signed_by(&key, &issuer).context("sign the proxy's certificate for TLS")?;
        server(&key, certificate.der().clone())
    }

    /// Writes it beside the other authorities.
    pub(super) fn save(&self, folder: &Path) -> Result<()> {
        write_secret(&folder.join("tls_ca.key"), &self.key)?;
        write_public(&folder.join("tls_ca.pem"), &self.certificate)?;
        write_secret(&folder.join("web.key"), &self.web_key)?;
        write_public(&folder.join("web.pem"), &self.web_certificate)
    }

    /// Reads what `save` wrote.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("read the authority {}", path.display()))
        };
        Ok(Self {
            key: read("tls_ca.key")?,
            certificate: read("tls_ca.pem")?,
            web_key: read("web.key")?,
            web_certificate: read("web.pem")?,
        })
    }
}

/// A user's certificate for TLS, as it lies in an identity file. Nothing in the lab asks for it, so nobody has signed it.
pub(super) fn user_pem(user: &str) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    Ok(params.self_signed(&key)?.pem())
}

fn params(cluster: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, cluster);
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    Ok(params)
}

fn server(key: &KeyPair, certificate: CertificateDer<'static>) -> Result<ServerConfig> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?)
}
