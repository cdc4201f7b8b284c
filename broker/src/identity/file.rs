//! An identity file: key, certificate and authorities in one, as `tsh login --out` and `tctl auth sign` write it.

use super::error::IdentityError;
use super::files::{Content, Files};
use super::keys::{
    belonging_to, certificate_beside, first_certificate, parse_key, read_certificate, tls_certificates,
};
use super::{Credential, FileFault, Found, SshFiles};
use crate::known_hosts::{Dialect, KnownHosts};
use std::path::Path;
use std::sync::Arc;

/// The parts of an identity file.
pub(super) fn find(files: &mut Files, path: &Path) -> Result<Found, IdentityError> {
    let renew = format!("tsh login --out={0}, or tctl auth sign --out={0}", path.display());
    find_renewed_by(files, path, renew)
}

/// The same for a file that something else renews.
pub(super) fn find_renewed_by(files: &mut Files, path: &Path, renew: String) -> Result<Found, IdentityError> {
    let Some(bytes) = files.read(path, Content::Secret)? else {
        return Err(IdentityError::Missing { what: "identity file", path: path.into(), renew });
    };
    let unusable = |fault| IdentityError::Unusable { path: path.into(), fault, renew: renew.clone() };
    let key = parse_key(&bytes).map_err(unusable)?;
    // It has been read as text once already.
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let beside = certificate_beside(path);
    let (certificate, certificate_path) = match first_certificate(text) {
        Some(Ok(certificate)) => (Some(certificate), path),
        Some(Err(error)) => {
            let why = format!("the certificate in it is damaged ({error})");
            return Err(unusable(FileFault::Garbage { expected: "certificate", why }));
        }
        None => (read_certificate(files, &beside, &renew)?, beside.as_path()),
    };
    let Some(certificate) = certificate else {
        let why = "there is neither a certificate in it nor one beside it".into();
        return Err(unusable(FileFault::Garbage { expected: "certificate", why }));
    };
    let certificate = belonging_to(&key, path, certificate, certificate_path, &renew)?;
    let authorities = authorities_in(text, path);
    // The user's own comes first.
    let tls_authorities = tls_certificates(&bytes, files).into_iter().skip(1).collect();
    let ssh_files = SshFiles {
        key: Some(path.into()),
        certificate: (certificate_path != path).then(|| certificate_path.into()),
        // ssh passes over every other line of the file.
        known_hosts: (!authorities.is_empty()).then(|| path.into()),
        agent: None,
    };
    Ok(Found {
        credential: Credential::Key { key: Arc::new(key), certificate: Some(certificate) },
        authorities,
        tls_authorities,
        ssh_files,
        renew,
    })
}

/// The lines with a marker; the others are blanked, so that line numbers stay right and no key is complained about.
pub(super) fn authorities_in(text: &str, path: &Path) -> KnownHosts {
    let marked: Vec<&str> = text.lines().map(|line| if line.starts_with('@') { line } else { "" }).collect();
    KnownHosts::parse(&marked.join("\n"), &path.to_string_lossy(), Dialect::OpenSsh)
}
