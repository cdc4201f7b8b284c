//! A private key and its certificate in files of their own, as OpenSSH keeps them.

use super::error::{FileFault, IdentityError};
use super::files::{Content, Files};
use super::{Credential, Found, SshFiles, private_key};
use crate::known_hosts::{Dialect, KnownHosts};
use ssh_key::{Certificate, PrivateKey};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// A key and, named or beside it, its certificate.
pub(super) fn find(
    files: &mut Files,
    key: &Path,
    certificate: Option<&Path>,
) -> Result<Found, IdentityError> {
    let renew = "ask for a new certificate from whoever signs it".to_owned();
    let beside = certificate_beside(key);
    let (path, required) = certificate.map_or((beside.as_path(), false), |named| (named, true));
    let folder = key.parent().unwrap_or(key);
    let private = read_key(files, key, &format!("ls -l {}", folder.display()))?;
    let certificate = match read_certificate(files, path, &renew)? {
        Some(certificate) => Some(belonging_to(&private, key, certificate, path, &renew)?),
        None if required => {
            return Err(IdentityError::Missing { what: "certificate", path: path.into(), renew });
        }
        None => None,
    };
    let ssh_files = SshFiles {
        key: Some(key.into()),
        certificate: certificate.as_ref().map(|_| path.into()),
        ..SshFiles::default()
    };
    Ok(Found {
        credential: Credential::Key { key: Arc::new(private), certificate },
        authorities: KnownHosts::default(),
        tls_authorities: Vec::new(),
        ssh_files,
        renew,
    })
}

/// `<key>-cert.pub`, where ssh looks for it too.
pub(super) fn certificate_beside(key: &Path) -> PathBuf {
    let mut path = OsString::from(key);
    path.push("-cert.pub");
    path.into()
}

/// The private key in a file that has to be there.
pub(super) fn read_key(files: &mut Files, path: &Path, renew: &str) -> Result<PrivateKey, IdentityError> {
    let Some(bytes) = files.read(path, Content::Secret)? else {
        return Err(IdentityError::Missing { what: "private key", path: path.into(), renew: renew.into() });
    };
    parse_key(&bytes).map_err(|fault| IdentityError::Unusable {
        path: path.into(),
        fault,
        renew: renew.into(),
    })
}

/// The first private key in a file's bytes.
pub(super) fn parse_key(bytes: &[u8]) -> Result<PrivateKey, FileFault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| FileFault::Garbage { expected: "private key", why: "it is not text".into() })?;
    private_key::parse(text)
}

/// The certificate in a file, if there is such a file.
pub(super) fn read_certificate(
    files: &mut Files,
    path: &Path,
    renew: &str,
) -> Result<Option<Box<Certificate>>, IdentityError> {
    let Some(bytes) = files.read(path, Content::Public)? else { return Ok(None) };
    let fault = |why: &str| IdentityError::Unusable {
        path: path.into(),
        fault: FileFault::Garbage { expected: "certificate", why: why.into() },
        renew: renew.into(),
    };
    match first_certificate(&String::from_utf8_lossy(&bytes)) {
        Some(Ok(certificate)) => Ok(Some(certificate)),
        Some(Err(error)) => Err(fault(&format!("the certificate in it is damaged ({error})"))),
        None if bytes.is_empty() => Err(fault("it is empty")),
        None => Err(fault("there is no line like ssh-…-cert-v01@openssh.com AAAA… in it")),
    }
}

/// The first line that is a certificate.
pub(super) fn first_certificate(text: &str) -> Option<Result<Box<Certificate>, ssh_key::Error>> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().filter(|word| word.ends_with("-cert-v01@openssh.com"))?;
        // Without its comment, which may be anything.
        Some(Certificate::from_openssh(&format!("{kind} {}", words.next().unwrap_or_default())).map(Box::new))
    })
}

/// A certificate that is for users, and for this key.
pub(super) fn belonging_to(
    key: &PrivateKey,
    key_path: &Path,
    certificate: Box<Certificate>,
    path: &Path,
    renew: &str,
) -> Result<Box<Certificate>, IdentityError> {
    let fault = if !certificate.cert_type().is_user() {
        FileFault::HostCertificate
    } else if certificate.public_key() != key.public_key().key_data() {
        FileFault::OtherKey { key: key_path.into() }
    } else {
        return Ok(certificate);
    };
    Err(IdentityError::Unusable { path: path.into(), fault, renew: renew.into() })
}

/// The known hosts in a file; none where there is no such file.
pub(super) fn read_known_hosts(
    files: &mut Files,
    path: &Path,
    dialect: Dialect,
) -> Result<Option<KnownHosts>, IdentityError> {
    let bytes = files.read(path, Content::Public)?;
    Ok(bytes
        .map(|bytes| KnownHosts::parse(&String::from_utf8_lossy(&bytes), &path.to_string_lossy(), dialect)))
}

/// The authorities for TLS in a file; none where there is no such file.
///
/// What cannot be read of them is left out: who does not go through TLS routing needs none of them. A file that is being
/// rewritten is looked at again.
pub(super) fn read_tls_authorities(
    files: &mut Files,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let Some(bytes) = files.read(path, Content::Public)? else { return Ok(Vec::new()) };
    Ok(tls_certificates(&bytes, files))
}

/// The certificates among the parts of a PEM file.
pub(super) fn tls_certificates(bytes: &[u8], files: &mut Files) -> Vec<CertificateDer<'static>> {
    let mut certificates = Vec::new();
    for part in CertificateDer::pem_slice_iter(bytes) {
        match part {
            Ok(certificate) => certificates.push(certificate),
            Err(_) => files.doubt(),
        }
    }
    certificates
}
