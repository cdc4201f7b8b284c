//! Whom the proxy lets in: a user certificate, and nothing else.
//!
//! Pure: the caller supplies the authority and the time. The signature of the
//! login itself was verified before. A refusal reaches the client as nothing
//! but `Permission denied (publickey)`; its reason is for the proxy's log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::public::KeyData;
use ssh_key::{Certificate, HashAlg};
use thiserror::Error;

/// Who logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The Teleport user.
    pub(crate) name: String,
    /// The cluster that names without a cluster mean.
    pub(crate) route_to_cluster: Option<String>,
    /// When the certificate ends; `None` is never.
    pub(crate) valid_before: Option<SystemTime>,
}

/// Why a certificate does not open the door.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Denial {
    #[error("a host certificate is no login")]
    NotAUser,
    #[error("the certificate has no key id")]
    NoKeyId,
    #[error("the certificate is signed by an authority that is not the cluster's")]
    UnknownAuthority,
    #[error("the certificate's signature does not hold")]
    BadSignature,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not yet valid")]
    NotYetValid,
    #[error("the login {0} is not among the certificate's principals")]
    NotAPrincipal(String),
    #[error("the certificate has an unknown critical option: {0}")]
    CriticalOption(String),
}

/// Checks a certificate for `login`, in the order of Go's `CertChecker`.
pub(crate) fn admit(
    certificate: &Certificate,
    login: &str,
    authority: &KeyData,
    now: SystemTime,
) -> Result<User, Denial> {
    if !certificate.cert_type().is_user() {
        return Err(Denial::NotAUser);
    }
    if certificate.key_id().is_empty() {
        return Err(Denial::NoKeyId);
    }
    if certificate.signature_key() != authority {
        return Err(Denial::UnknownAuthority);
    }
    if let Some((name, _)) = certificate.critical_options().iter().next() {
        return Err(Denial::CriticalOption(name.clone()));
    }
    // An empty list would mean everybody: Teleport issues none, and Go's
    // checker lets it pass; here it is refused.
    if !certificate.valid_principals().iter().any(|p| p == login) {
        return Err(Denial::NotAPrincipal(login.to_owned()));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now < certificate.valid_after() {
        return Err(Denial::NotYetValid);
    }
    if now >= certificate.valid_before() {
        return Err(Denial::Expired);
    }
    if !sound(certificate, authority) {
        return Err(Denial::BadSignature);
    }
    let route = certificate.extensions().get("teleport-route-to-cluster");
    Ok(User {
        name: certificate.key_id().to_owned(),
        route_to_cluster: route.filter(|cluster| !cluster.is_empty()).cloned(),
        valid_before: (certificate.valid_before() < u64::MAX / 2)
            .then(|| UNIX_EPOCH + Duration::from_secs(certificate.valid_before())),
    })
}

/// Whether the authority did sign it. The time is checked apart, because the
/// library knows only its own clock's.
fn sound(certificate: &Certificate, authority: &KeyData) -> bool {
    let fingerprint = authority.fingerprint(HashAlg::Sha256);
    certificate.validate_at(certificate.valid_after(), [&fingerprint]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Authority, HostRequest, KeyKind, UserRequest, Validity};

    fn authority() -> Authority {
        Authority::new("poc", KeyKind::Ed25519).unwrap()
    }

    fn admit_now(certificate: &Certificate, login: &str, authority: &Authority) -> Result<User, Denial> {
        admit(certificate, login, authority.user_ca().key_data(), SystemTime::now())
    }

    #[test]
    fn a_users_certificate_opens_for_each_of_its_logins() {
        let ca = authority();
        let request = UserRequest::new("alice", &["root", "debian"]);
        let certificate = ca.issue_user(&request).unwrap().certificate;
        let user = admit_now(&certificate, "debian", &ca).unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.route_to_cluster.as_deref(), Some("poc"));
        assert!(user.valid_before.is_some());
        assert_eq!(admit_now(&certificate, "daemon", &ca), Err(Denial::NotAPrincipal("daemon".into())));
    }

    #[test]
    fn another_time_another_authority_or_another_type_is_denied() {
        let ca = authority();
        let alice = UserRequest::new("alice", &["root"]);
        let issue = |request: UserRequest| ca.issue_user(&request).unwrap().certificate;
        let expired = issue(alice.clone().valid(Validity::expired()));
        assert_eq!(admit_now(&expired, "root", &ca), Err(Denial::Expired));
        let early = issue(alice.clone().valid(Validity::not_yet()));
        assert_eq!(admit_now(&early, "root", &ca), Err(Denial::NotYetValid));
        let nobody = issue(UserRequest::new("", &["root"]));
        assert_eq!(admit_now(&nobody, "root", &ca), Err(Denial::NoKeyId));
        assert_eq!(admit_now(&issue(alice), "root", &authority()), Err(Denial::UnknownAuthority));
        let host = ca.issue_host(&HostRequest::node("u-1", "worker")).unwrap();
        assert_eq!(admit_now(&host.certificate, "worker", &ca), Err(Denial::NotAUser));
    }
}
