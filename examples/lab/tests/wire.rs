//! The stand-in proxy on the wire: what stock ssh hides, such as the order of
//! messages, the exact texts, many channels at once, a node that does not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use natssh_lab::agent::{self, NodeName, Target};
use natssh_lab::ca::{Authority, KeyKind, UserRequest};
use natssh_lab::proxy::{Face, Options, Policy, Proxy, TlsRouting};
use russh::client::{Config, Handle, Handler, connect};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg, Preferred, client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

const BANNER: &[u8] = b"SSH-2.0-Echo\r\n";
const TWIN: [&str; 2] = ["11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"];

/// A proxy, nodes that say a banner and send back what they get, and a client's connection.
struct Cluster {
    proxy: Proxy,
    nodes: Vec<AbortHandle>,
    ssh: Handle<Trusting>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(AbortHandle::abort);
    }
}

struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(key.certificate().is_some())
    }
}

impl Cluster {
    async fn new(face: Face, policy: Policy) -> Self {
        let kind = match face {
            Face::Old => KeyKind::Rsa,
            Face::New => KeyKind::Ed25519,
        };
        let authority = Authority::new("poc", kind).unwrap();
        let proxy = Proxy::start(Options {
            tls_routing: TlsRouting::Off,
            clients: loopback().await,
            tunnel: loopback().await,
            token: "lab-token".into(),
            authority: authority.clone(),
            face,
            public_names: vec![],
            inventory: vec![name("offline", "22222222-0000-4000-8000-000000000001")],
            policy,
        })
        .unwrap();
        let echo = loopback().await;
        let server = echo.local_addr().unwrap();
        let mut nodes = vec![
            node(&proxy, name("echo", "33333333-0000-4000-8000-000000000001"), server),
            node(&proxy, name("deaf", "33333333-0000-4000-8000-000000000002"), server),
            node(&proxy, name("closed", "33333333-0000-4000-8000-000000000003"), closed().await),
        ];
        for uuid in TWIN {
            nodes.push(node(&proxy, name("twin", uuid), server));
        }
        nodes.push(tokio::spawn(serve(echo)).abort_handle());
        let ssh = login(&proxy, &authority).await;
        until(|| proxy.nodes().iter().filter(|node| node.online).count() == 5).await;
        Self { proxy, nodes, ssh }
    }

    async fn ask(&self, subsystem: &str) -> Channel<client::Msg> {
        let channel = self.ssh.channel_open_session().await.unwrap();
        channel.request_subsystem(true, subsystem).await.unwrap();
        channel
    }

    /// A stream whose banner has been read.
    async fn stream(&self, node: &str) -> russh::ChannelStream<client::Msg> {
        let mut channel = self.ask(&format!("proxy:{node}:22")).await;
        assert!(matches!(channel.wait().await, Some(ChannelMsg::Success)));
        let mut stream = channel.into_stream();
        let mut banner = [0; BANNER.len()];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(banner, BANNER);
        stream
    }

    /// Everything that comes on a channel, to its end.
    async fn said(&self, subsystem: &str) -> Vec<String> {
        let mut channel = self.ask(subsystem).await;
        let mut said = Vec::new();
        while let Some(message) = timeout(Duration::from_secs(10), channel.wait()).await.unwrap() {
            said.push(match message {
                ChannelMsg::ExtendedData { ext: 1, data } => format!("stderr {}", utf8(&data)),
                ChannelMsg::Data { data } => format!("stdout {}", utf8(&data)),
                ChannelMsg::WindowAdjusted { .. } => continue,
                other => format!("{other:?}"),
            });
        }
        said
    }
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn name(hostname: &str, uuid: &str) -> NodeName {
    NodeName { hostname: hostname.into(), uuid: uuid.into() }
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// An address where nobody listens.
async fn closed() -> SocketAddr {
    loopback().await.local_addr().unwrap()
}

fn node(proxy: &Proxy, node: NodeName, server: SocketAddr) -> AbortHandle {
    let options = agent::Options {
        proxy: proxy.tunnel_address(),
        token: "lab-token".into(),
        node,
        target: Target::Connect(server),
    };
    tokio::spawn(async move { match agent::run(options).await {} }).abort_handle()
}

/// A node's server: it says a banner and sends back what it gets.
async fn serve(listener: TcpListener) {
    let mut streams = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        streams.spawn(async move {
            stream.write_all(BANNER).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// Waits for something that takes no more than a moment.
async fn until(true_now: impl Fn() -> bool) {
    let begun = Instant::now();
    while !true_now() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it did not come to pass");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn login(proxy: &Proxy, authority: &Authority) -> Handle<Trusting> {
    let config = Config {
        preferred: Preferred { host_key_certificates: Preferred::DEFAULT.key, ..Preferred::DEFAULT },
        nodelay: true,
        ..Config::default()
    };
    let mut ssh = connect(Arc::new(config), proxy.client_address(), Trusting).await.unwrap();
    // Not RSA: this client signs with SHA-2 what it announces as SHA-1.
    let key = KeyKind::Ed25519.generate().unwrap();
    let alice = authority.sign_user(&UserRequest::new("alice", &["root"]), key).unwrap();
    let key = Arc::new(alice.key);
    let outcome = ssh.authenticate_openssh_cert("root", key, alice.certificate).await.unwrap();
    assert!(outcome.success());
    ssh
}

fn no_tunnel(agent: &str, id: &str) -> String {
    format!(
        "stderr Teleport proxy failed to connect to \"node\" agent \"{agent}\" over reverse tunnel:\n\n  \
         no tunnel connection found: no node reverse tunnel for {id} found\n\n\
         This usually means that the agent is offline or has disconnected. Check the\n\
         agent logs and, if the issue persists, try restarting it or re-registering it\n\
         with the cluster.\n"
    )
}

#[tokio::test]
async fn a_refusal_is_text_then_failure_then_close_and_nothing_else() {
    for face in [Face::Old, Face::New] {
        let cluster = Cluster::new(face, Policy::default()).await;
        let invalid = "stderr invalid format for proxy request:";
        let uuid = "44444444-2222-3333-4444-555555555555";
        let mut table = vec![
            ("proxy:echo", format!("{invalid} \"proxy:echo\", expected 'proxy:host:port@cluster'\n")),
            ("proxy:echo:22@nowhere", format!("{invalid} unknown cluster \"nowhere\"\n")),
            ("sftp", "stderr unrecognized subsystem: sftp\n".into()),
            ("proxy:twin:22", "stderr err-node-is-ambiguous\n".into()),
            ("proxy:offline:22", no_tunnel("@local-node", "22222222-0000-4000-8000-000000000001.poc")),
        ];
        table.extend(match face {
            Face::Old => [
                ("proxy:nobody.invalid:22", no_tunnel("nobody.invalid:22", "")),
                (
                    "proxy:44444444-2222-3333-4444-555555555555:0",
                    format!("stderr unable to locate node matching uuid-like target {uuid}\n"),
                ),
            ],
            Face::New => [
                ("proxy:nobody:22", "stderr target host nobody is offline or does not exist\n".into()),
                (
                    "proxy:44444444-2222-3333-4444-555555555555:0",
                    format!("stderr unable to locate node matching UUID-like target {uuid}\n"),
                ),
            ],
        });
        for (request, text) in table {
            assert_eq!(cluster.said(request).await, [&text, "Failure", "Close"], "{request}");
        }
        let said = cluster.said("proxy:closed:22").await;
        assert!(said[0].contains("connect to the SSH server at 127.0.0.1"), "{said:?}");
        assert_eq!(said[1..], ["Failure", "Close"]);
    }
}

#[tokio::test]
async fn a_channel_without_a_subsystem_is_refused_what_it_asks() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut channel = cluster.ssh.channel_open_session().await.unwrap();
    channel.set_env(true, "LANG", "C").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Success)));
    channel.exec(true, "true").await.unwrap();
    let Some(ChannelMsg::ExtendedData { data, ext: 1 }) = channel.wait().await else {
        panic!("no reason came before the failure");
    };
    assert_eq!(utf8(&data), "(proxy) proxy doesn't support request type 'exec'\n");
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));

    let refused = cluster.ssh.channel_open_direct_streamlocal("/run/x.sock").await.unwrap_err();
    assert!(matches!(refused, russh::Error::ChannelOpenFailure(_)), "{refused}");
}

#[tokio::test]
async fn a_jump_that_fails_says_little_on_an_open_channel() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut channel = cluster.ssh.channel_open_direct_tcpip("offline", 22, "127.0.0.1", 1).await.unwrap();
    let Some(ChannelMsg::ExtendedData { data, ext: 1 }) = channel.wait().await else {
        panic!("no reason came");
    };
    assert_eq!(utf8(&data), "Unable to start proxy subsystem.");
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Close)));
}

#[tokio::test]
async fn a_thousand_streams_share_one_connection() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(cluster.stream("echo").await);
    }
    for stream in &mut streams {
        stream.write_all(b"hello").await.unwrap();
    }
    for stream in &mut streams {
        let mut answer = [0; 5];
        timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"hello");
    }
    let counters = cluster.proxy.counters();
    assert_eq!((counters.connections, counters.channels_open, counters.streams), (1, 1000, 1000));
    drop(streams);
    until(|| cluster.proxy.counters().channels_open == 0).await;
    assert_eq!(cluster.proxy.counters().bytes_held, 0);
}

#[tokio::test]
async fn a_node_that_takes_nothing_stalls_nobody_else() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut deaf = cluster.stream("deaf").await;
    cluster.proxy.freeze_node("deaf");
    let flood = vec![7; 16 * 1024 * 1024];
    timeout(Duration::from_secs(30), deaf.write_all(&flood)).await.unwrap().unwrap();
    let mut echo = cluster.stream("echo").await;
    echo.write_all(b"still here").await.unwrap();
    let mut answer = [0; 10];
    timeout(Duration::from_secs(10), echo.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"still here");
    until(|| cluster.proxy.counters().bytes_held >= flood.len() as u64).await;
    drop(deaf);
    until(|| cluster.proxy.counters().bytes_held == 0).await;
}

#[tokio::test]
async fn a_frozen_node_goes_silent_in_the_middle_of_a_stream() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut stream = cluster.stream("echo").await;
    cluster.proxy.freeze_node("echo");
    stream.write_all(b"anyone?").await.unwrap();
    let mut answer = [0; 7];
    let silence = timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await;
    assert!(silence.is_err(), "a frozen node answered");
    cluster.proxy.thaw_node("echo");
    timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"anyone?");
}

#[tokio::test]
async fn a_keepalive_comes_for_each_open_channel() {
    let keepalive = Duration::from_millis(200);
    let cluster = Cluster::new(Face::New, Policy { keepalive, ..Policy::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(cluster.stream("echo").await);
    }
    let begun = Instant::now();
    let mut answer = [0; 1];
    while cluster.proxy.counters().keepalives < 6 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        streams[0].write_all(b"x").await.unwrap();
        streams[0].read_exact(&mut answer).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn dropped_connections_end_their_streams_and_the_proxy_goes_on() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut stream = cluster.stream("echo").await;
    cluster.proxy.drop_connections();
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap();
    assert!(ended.is_err() || rest.is_empty());
    until(|| cluster.proxy.counters().connections_open == 0).await;
    assert_eq!(cluster.proxy.counters().channels_open, 0);
    assert!(cluster.proxy.nodes().iter().any(|node| node.online));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_hung_up_on() {
    let cluster = Cluster::new(Face::New, Policy::default()).await;
    let mut silent = tokio::net::TcpStream::connect(cluster.proxy.client_address()).await.unwrap();
    let mut word = [0; 1];
    let read = timeout(Duration::from_secs(10), silent.read(&mut word)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "it spoke first");
}
