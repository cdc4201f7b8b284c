//! TLS routing: all protocols of a cluster on one port, told apart by what TLS asks for (Teleport 8 and later).
//!
//! The proxy shows its host certificate there, which the cluster's own authority signed, and not the one of its web
//! pages; and it selects no protocol (lib/service/service.go, `setupALPNRouter`, 14). What is inside is its SSH
//! listener, where both sides prove themselves as on a port of its own: TLS is only the way to it.

use crate::config::TlsRouting;
use crate::identity::Identity;
use crate::ssh::describe_io;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error,
    RootCertStore, SignatureScheme, WantsVerifier,
};

/// What leads to the SSH listener (lib/srv/alpnproxy/common/protocols.go). The proxy takes the first of a list that it
/// knows, so nothing may stand beside it.
const PROTOCOL: &[u8] = b"teleport-proxy-ssh";

/// A name that every proxy's certificate holds beside its public ones (lib/auth/auth.go, `DefaultDNSNamesForRole`).
const ANY_PROXY: &str = "teleport.cluster.local";

/// A stream of bytes, whatever carries it.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Shakes hands with a proxy over what leads to it; its SSH listener is behind it.
///
/// # Errors
/// `HostKey` where the certificate is not what the login knows, `Protocol` where no such proxy listens, `Timeout`.
pub(super) async fn connect(
    way: Box<dyn Io>,
    server: &NodeAddr,
    settings: &TlsRouting,
    identity: &Identity,
    deadline: Instant,
) -> Result<Box<dyn Io>, Failure> {
    let side = Side {
        peer: format!("proxy {server}"),
        strange: "your login's authorities: they have changed, or something in between ends TLS (connection_upgrade = true)",
        hint: identity.renew.clone(),
    };
    let roots = authorities(settings, identity).await;
    if roots.is_empty() {
        let text = format!(
            "{} cannot be told from another: identity {} brings no authority for TLS, and none is named",
            side.peer, identity.name
        );
        return Err(Failure::new(FailureKind::Config, text).hint(NAME_AUTHORITIES));
    }
    let config = to_proxy(roots).map_err(|error| side.cannot(&error))?;
    let shake = TlsConnector::from(config).connect(name_of(server)?, way);
    match timeout_at(deadline, shake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(side.failed(server, &error)),
        Err(_) => {
            let text = format!("{} did not answer during the TLS handshake", side.peer);
            Err(Failure::new(FailureKind::Timeout, text))
        }
    }
}

/// The same with what ends TLS before the proxy: it is judged by the machine's own authorities, and speaks HTTP. The
/// caller sees to the time.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_to_balancer(
    stream: TcpStream,
    server: &NodeAddr,
    settings: &TlsRouting,
) -> Result<TlsStream<TcpStream>, Failure> {
    let side = Side {
        peer: format!("the load balancer before proxy {server}"),
        strange: "the authorities that this machine trusts",
        hint: NAME_AUTHORITIES.into(),
    };
    // Reading them takes a hundred files on some systems.
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.map(|native| native.certs).unwrap_or_default());
    add_named(&mut roots, settings).await;
    let config = with_provider().map(|builder| {
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        config
    });
    let config = config.map_err(|error| side.cannot(&error))?;
    let shake = TlsConnector::from(Arc::new(config)).connect(name_of(server)?, stream);
    shake.await.map_err(|error| side.failed(server, &error))
}

/// What to write where an authority is missing.
const NAME_AUTHORITIES: &str = "tls_ca = [\"FILE\"] beside tls_routing in natssh.toml";

/// What the identity brings, and files of the user's own.
async fn authorities(settings: &TlsRouting, identity: &Identity) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // One that makes no sense is left out, like one that cannot be read.
    roots.add_parsable_certificates(identity.tls_authorities.iter().cloned());
    add_named(&mut roots, settings).await;
    roots
}

async fn add_named(roots: &mut RootCertStore, settings: &TlsRouting) {
    for path in &settings.authorities {
        match read(path).await {
            Ok(certificates) => drop(roots.add_parsable_certificates(certificates)),
            Err(why) => tracing::warn!(path = %path.display(), %why, "authorities for TLS not read"),
        }
    }
}

async fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn to_proxy(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let by_name = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let by_name = by_name.map_err(|error| Error::General(error.to_string()))?;
    let mut config = with_provider()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ProxyName(by_name)))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A trunk is dialled once in hours.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn with_provider() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

/// The name that is asked for, by which a load balancer may tell clusters apart.
fn name_of(server: &NodeAddr) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(server.host.clone()).map_err(|_| {
        let text = format!("proxy {server}: TLS knows no such name");
        Failure::new(FailureKind::Config, text).hint("natssh config show")
    })
}

/// Takes a certificate for the proxy's own name, or for any proxy of the cluster: where no public address was
/// configured there is only the latter. That it is a proxy of this cluster is proved again by SSH.
#[derive(Debug)]
struct ProxyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ProxyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        own: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |name: &_| self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let by_own = verify(own);
        match (&by_own, ServerName::try_from(ANY_PROXY)) {
            // Of two refusals the one that speaks of the name people know.
            (Err(Error::InvalidCertificate(cause)), Ok(any)) if is_of_another_name(cause) => {
                verify(&any).or(by_own)
            }
            _ => by_own,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn is_of_another_name(cause: &CertificateError) -> bool {
    matches!(cause, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

/// The other side of a handshake, for who has to be told that it failed.
struct Side {
    peer: String,
    /// Whose signature its certificate does not have.
    strange: &'static str,
    /// What to type to know today's authorities.
    hint: String,
}

impl Side {
    fn cannot(&self, error: &Error) -> Failure {
        let text = format!("{}: TLS cannot be set up: {error}", self.peer);
        Failure::new(FailureKind::Internal, text).hint("natssh status")
    }

    fn failed(&self, server: &NodeAddr, error: &io::Error) -> Failure {
        let peer = &self.peer;
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            let why = describe_io(error);
            return Failure::new(
                FailureKind::Unreachable,
                format!("{peer} broke off the TLS handshake: {why}"),
            );
        };
        match tls {
            Error::InvalidCertificate(cause) => {
                let why = match cause {
                    CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                        format!("signed by none of {}", self.strange)
                    }
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        "that has expired".to_owned()
                    }
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        "that is not valid yet by this machine's clock".to_owned()
                    }
                    cause if is_of_another_name(cause) => format!("for other names than {}", server.host),
                    other => format!("that is of no use ({other})"),
                };
                let text = format!("{peer} shows a TLS certificate {why}");
                Failure::new(FailureKind::HostKey, text).hint(&*self.hint)
            }
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                let text = format!("{peer} has TLS, and is no Teleport proxy with TLS routing");
                Failure::new(FailureKind::Protocol, text)
            }
            Error::InvalidMessage(_) => {
                let text = format!(
                    "{peer} does not answer in TLS: with tls_routing the address is the web listener's"
                );
                Failure::new(FailureKind::Protocol, text)
            }
            other => {
                Failure::new(FailureKind::Protocol, format!("{peer} broke off the TLS handshake: {other}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
