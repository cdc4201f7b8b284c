//! `GET /metrics`: on the local socket, and for Prometheus, which reads no unix
//! sockets, on a loopback port where the configuration names one.
//!
//! The port serves this page and nothing else. Whoever is on this machine may ask;
//! a web page may not, so the `Host` of a request must be a loopback address.

use super::local::Answer;
use crate::broker::{Broker, Phase, Port};
use crate::metrics;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How often a port that cannot be opened is tried again: the broker before this one may still hold it.
const AGAIN: Duration = Duration::from_secs(3);
/// Scrapes at a time; Prometheus makes one.
const SCRAPES: usize = 16;
/// A scrape is over by then, whatever its client does.
const SCRAPE: Duration = Duration::from_secs(10);
/// A pause after an error of `accept`, which is nearly always "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the port that the configuration names, whichever it is at the time, until the broker drains.
pub async fn serve(broker: Arc<Broker>) {
    let (mut reaches, mut phase) = (broker.reaches(), broker.phase());
    loop {
        let wanted = reaches.borrow_and_update().settings.metrics;
        tokio::select! {
            () = serve_on(&broker, wanted) => {}
            _ = reaches.wait_for(|reach| reach.settings.metrics != wanted) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => {
                broker.note_metrics_port(Port::Unwanted);
                return;
            }
        }
    }
}

/// Serves one port, or none, for ever.
async fn serve_on(broker: &Arc<Broker>, wanted: Option<SocketAddr>) {
    let Some(wanted) = wanted else {
        broker.note_metrics_port(Port::Unwanted);
        return std::future::pending().await;
    };
    let listener = open(broker, wanted).await;
    let places = Arc::new(Semaphore::new(SCRAPES));
    loop {
        // Who comes when all places are taken waits in the backlog; places come free by time.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let broker = broker.clone();
                tokio::spawn(async move {
                    drop(timeout(SCRAPE, scrape(&broker, socket)).await);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection to the metrics port could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Opens the port, however often that takes.
async fn open(broker: &Broker, wanted: SocketAddr) -> TcpListener {
    loop {
        let opened = TcpListener::bind(wanted).await.and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        match opened {
            Ok((listener, address)) => {
                broker.note_metrics_port(Port::Open(address));
                tracing::info!(%address, "metrics are served");
                return listener;
            }
            Err(error) => {
                let sentence = format!("the metrics port {wanted} cannot be opened: {error}");
                if broker.note_metrics_port(Port::Failed(sentence.clone())) {
                    tracing::warn!("{sentence}");
                }
                sleep(AGAIN).await;
            }
        }
    }
}

async fn scrape(broker: &Broker, socket: TcpStream) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(broker, &request)) });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SCRAPE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a scrape did not end well");
    }
}

fn answer<B>(broker: &Broker, request: &Request<B>) -> Answer {
    match refusal(request) {
        None => page(broker),
        Some((status, sentence)) => {
            let mut response = Response::new(Full::new(Bytes::from_static(sentence.as_bytes())));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            if status == StatusCode::METHOD_NOT_ALLOWED {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            response
        }
    }
}

/// Why a request on the port is not answered with the page.
fn refusal<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if request.uri().authority().is_some() || !host.is_some_and(is_this_machine) {
        let sentence = "this port answers to localhost and to loopback addresses\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, sentence));
    }
    if request.uri().path() != "/metrics" {
        return Some((StatusCode::NOT_FOUND, "this port serves /metrics\n"));
    }
    (request.method() != Method::GET).then_some((StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n"))
}

/// Whether a `Host` is this machine by a name that no name server decides about. The port
/// may be another one: people forward ports.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The page.
pub(super) fn page(broker: &Broker) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(broker.metrics())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_name_server_decides_about_is_not_this_machine() {
        for host in ["localhost", "LocalHost:9464", "127.0.0.1:9464", "127.1.2.3", "[::1]:9464", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "[:1]",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn the_port_serves_one_page() {
        let refused = |method: &str, uri: &str, host: &str| {
            let request = Request::builder().method(method).uri(uri).header(HOST, host).body(()).unwrap();
            refusal(&request).map(|(status, _)| status.as_u16())
        };
        assert_eq!(refused("GET", "/metrics", "127.0.0.1:9464"), None);
        assert_eq!(refused("GET", "/v1/status", "localhost"), Some(404));
        assert_eq!(refused("POST", "/v1/stop", "localhost"), Some(404));
        assert_eq!(refused("POST", "/metrics", "localhost"), Some(405));
        assert_eq!(refused("CONNECT", "web:22", "localhost"), Some(421));
        assert_eq!(refused("GET", "http://127.0.0.1/metrics", "127.0.0.1"), Some(421));
        assert_eq!(refused("GET", "/metrics", "rebound.example:9464"), Some(421));
    }
}
