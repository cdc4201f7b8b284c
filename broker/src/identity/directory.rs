//! A folder that tbot fills, and rewrites every twenty minutes.

use super::error::IdentityError;
use super::files::Files;
use super::keys::{
    belonging_to, certificate_beside, read_certificate, read_key, read_known_hosts, read_tls_authorities,
};
use super::{Credential, Found, SshFiles, file};
use crate::known_hosts::Dialect;
use std::path::Path;
use std::sync::Arc;

/// `key`, `key-cert.pub` and `known_hosts`; where those are missing, `identity`, which holds all three.
pub(super) fn find(files: &mut Files, folder: &Path) -> Result<Found, IdentityError> {
    let renew = format!("see why tbot does not renew {}: systemctl status tbot", folder.display());
    let key_path = folder.join("key");
    let key = match read_key(files, &key_path, &renew) {
        Err(IdentityError::Missing { .. }) => {
            return match file::find_renewed_by(files, &folder.join("identity"), renew.clone()) {
                Err(IdentityError::Missing { .. }) => {
                    Err(IdentityError::Missing { what: "key of tbot", path: key_path, renew })
                }
                other => other,
            };
        }
        other => other?,
    };
    let certificate_path = certificate_beside(&key_path);
    let Some(certificate) = read_certificate(files, &certificate_path, &renew)? else {
        return Err(IdentityError::Missing { what: "certificate", path: certificate_path, renew });
    };
    let certificate = belonging_to(&key, &key_path, certificate, &certificate_path, &renew)?;
    let known_hosts = folder.join("known_hosts");
    let authorities = read_known_hosts(files, &known_hosts, Dialect::OpenSsh)?;
    let tls_authorities = read_tls_authorities(files, &folder.join("teleport-host-ca.crt"))?;
    let ssh_files = SshFiles {
        key: Some(key_path),
        certificate: Some(certificate_path),
        known_hosts: authorities.is_some().then_some(known_hosts),
        agent: None,
    };
    Ok(Found {
        credential: Credential::Key { key: Arc::new(key), certificate: Some(certificate) },
        authorities: authorities.unwrap_or_default(),
        tls_authorities,
        ssh_files,
        renew,
    })
}
