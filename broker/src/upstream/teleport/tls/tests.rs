//! Proxies that are what they should be, and others.

use super::*;
use crate::identity::Source;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A cluster's authority.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "lab");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], key)
            .unwrap()
    }
}

/// A folder with an identity whose login knows this authority.
fn identity(authority: Option<&Authority>) -> (tempfile::TempDir, Identity) {
    use crate::identity::testing::{builder, ed25519, write};
    let folder = tempfile::tempdir().unwrap();
    let key = ed25519(1);
    let pem = key.to_openssh(ssh_key::LineEnding::LF).unwrap();
    write(&folder.path().join("key"), pem.as_bytes());
    let mut certificate = builder(&key, ssh_key::certificate::CertType::User, &["root"]);
    certificate.key_id("alice").unwrap();
    let certificate = certificate.sign(&crate::identity::testing::authority()).unwrap();
    write(&folder.path().join("key-cert.pub"), certificate.to_openssh().unwrap());
    if let Some(authority) = authority {
        write(&folder.path().join("teleport-host-ca.crt"), &authority.pem);
    }
    let source = Source::Directory(folder.path().to_owned());
    let identity = Identity::load("me", &source, 0).unwrap();
    (folder, identity)
}

/// A server that does this with its first client, and its address under the name `localhost`.
async fn serving<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> NodeAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    NodeAddr { host: "localhost".into(), port }
}

/// One that shakes hands, and says what the client has asked for.
async fn shaking(config: ServerConfig) -> NodeAddr {
    serving(|stream| async move {
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let asked = stream.get_ref().1.server_name().unwrap_or("no name").to_owned();
            stream.write_all(asked.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await
}

async fn dial(server: &NodeAddr, settings: &TlsRouting, identity: &Identity) -> Result<String, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut stream = connect(Box::new(stream), server, settings, identity, deadline).await?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    Ok(heard)
}

#[tokio::test]
async fn a_proxy_is_taken_by_its_own_name_or_that_of_all_proxies_and_asked_by_its_own() {
    let authority = Authority::new();
    let (_folder, identity) = identity(Some(&authority));
    for names in [&["localhost"][..], &["elsewhere.example", ANY_PROXY]] {
        let server = shaking(authority.sign(names, |_| {})).await;
        assert_eq!(dial(&server, &TlsRouting::default(), &identity).await.unwrap(), "localhost", "{names:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_proves_something_else_is_refused_with_what_it_is() {
    let authority = Authority::new();
    let (_folder, identity) = identity(Some(&authority));
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    for (shown, words) in [
        (Authority::new().sign(&["localhost"], |_| {}), "signed by none of your login's authorities"),
        (authority.sign(&["elsewhere.example"], |_| {}), "for other names than localhost"),
        (authority.sign(&["localhost"], past), "that has expired"),
        (authority.sign(&["localhost"], future), "not valid yet by this machine's clock"),
    ] {
        let server = shaking(shown).await;
        let failure = dial(&server, &TlsRouting::default(), &identity).await.unwrap_err();
        let begin = format!("proxy {server} shows a TLS certificate ");
        assert!(failure.message.starts_with(&begin) && failure.message.contains(words), "{failure}");
        assert_eq!((failure.kind, failure.hint.as_deref()), (FailureKind::HostKey, Some(&*identity.renew)));
    }
}

#[tokio::test]
async fn authorities_come_from_files_of_the_user_s_too_and_without_any_nobody_is_asked() {
    let authority = Authority::new();
    let (folder, identity) = identity(None);
    let server = shaking(authority.sign(&["localhost"], |_| {})).await;
    let failure = dial(&server, &TlsRouting::default(), &identity).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(failure.message.contains("identity me brings no authority for TLS"), "{failure}");
    assert!(failure.hint.unwrap().contains("tls_ca"));

    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let missing = PathBuf::from("/nowhere/ca.pem");
    let settings = TlsRouting { authorities: vec![missing, file], upgrade: false };
    let server = shaking(authority.sign(&["localhost"], |_| {})).await;
    assert_eq!(dial(&server, &settings, &identity).await.unwrap(), "localhost");
}

#[tokio::test]
async fn what_is_no_proxy_with_tls_routing_is_told_from_one() {
    let authority = Authority::new();
    let (_folder, identity) = identity(Some(&authority));
    let mut web = authority.sign(&["localhost"], |_| {});
    web.alpn_protocols = vec![b"h2".to_vec()];
    let web = shaking(web).await;
    let ssh = serving(|mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        // A socket that is closed with bytes unread resets its peer.
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let closing = serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let silent = serving(|stream| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    for (server, kind, words) in [
        (web, FailureKind::Protocol, "has TLS, and is no Teleport proxy with TLS routing"),
        (
            ssh,
            FailureKind::Protocol,
            "does not answer in TLS: with tls_routing the address is the web listener's",
        ),
        (
            closing,
            FailureKind::Unreachable,
            "broke off the TLS handshake: the connection was closed by the other side",
        ),
        (silent, FailureKind::Timeout, "did not answer during the TLS handshake"),
    ] {
        let failure = dial(&server, &TlsRouting::default(), &identity).await.unwrap_err();
        assert_eq!((failure.kind, failure.message), (kind, format!("proxy {server} {words}")));
    }
}
