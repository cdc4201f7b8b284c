//! The node's side of the tunnel: it dials out to the proxy, stays registered
//! there, and brings a stream to the local SSH server whenever it is asked.
//!
//! It never listens. A process that runs it and is stopped by SIGSTOP is what
//! a hung node looks like: registered, and without an answer.

mod carry;

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use crate::tunnel::NodeName;
use crate::tunnel::{FromNode, FromProxy, Hello, read_line};

/// Between a lost proxy and the next try.
const RETRY: Duration = Duration::from_millis(500);
/// Between two signs of life asked for.
const PING: Duration = Duration::from_secs(2);
/// Without a word from the proxy for so long, the path is dead.
const SILENCE: Duration = Duration::from_secs(7);
/// The longest wait for a connection to the proxy or to the local server.
const CONNECT: Duration = Duration::from_secs(5);

/// What a node needs to be reachable.
#[derive(Clone, Debug)]
pub struct Options {
    /// The proxy's tunnel address.
    pub proxy: SocketAddr,
    /// The lab's secret that lets nodes register.
    pub token: String,
    /// Who this node is.
    pub node: NodeName,
    /// Where its streams go.
    pub target: Target,
}

/// The SSH server of a node.
#[derive(Clone, Debug)]
pub enum Target {
    /// One that listens.
    Connect(SocketAddr),
    /// A command, one process a stream, with the stream as stdin and stdout: `sshd -i …`.
    /// Its stderr is this process's.
    Spawn(Vec<OsString>),
}

/// Keeps the node registered for ever, or until the future is dropped, which
/// closes the streams that go to a listening server.
pub async fn run(options: Options) -> Infallible {
    let mut streams = JoinSet::new();
    let mut reached = true;
    loop {
        match register(&options).await {
            Ok(control) => {
                reached = true;
                tracing::info!(node = options.node.hostname, "registered at the proxy");
                let end = serve(&options, control, &mut streams).await;
                tracing::info!(node = options.node.hostname, "lost the proxy: {end:#}");
            }
            Err(error) if reached => {
                reached = false;
                tracing::warn!(node = options.node.hostname, "cannot register: {error:#}");
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// Dials the proxy and introduces the node.
async fn register(options: &Options) -> Result<TcpStream> {
    let token = options.token.clone();
    let hello = Hello::Node { token, name: options.node.clone() };
    let answer = async {
        let mut control = dial(options.proxy, &hello).await?;
        let line = read_line(&mut control).await.context("read the proxy's answer")?;
        match FromProxy::parse(&line) {
            Some(FromProxy::Welcome) => Ok(control),
            Some(FromProxy::Refused(reason)) => bail!("refused: {reason}"),
            _ => bail!("not a lab proxy: it answered {line:?}"),
        }
    };
    timeout(CONNECT, answer).await.context("no answer in time")?
}

/// Obeys one control connection until it ends; the value is why it did.
async fn serve(options: &Options, control: TcpStream, streams: &mut JoinSet<()>) -> anyhow::Error {
    let (read, write) = control.into_split();
    let mut read = BufReader::new(read);
    let (say, said) = mpsc::unbounded_channel();
    let mut speaker = JoinSet::new();
    speaker.spawn(speak(write, said));
    loop {
        let line = match timeout(SILENCE, read_line(&mut read)).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return error.into(),
            Err(_) => return anyhow::anyhow!("no word for {} s", SILENCE.as_secs()),
        };
        match FromProxy::parse(&line) {
            Some(FromProxy::Dial(id)) => {
                let (options, say) = (options.clone(), say.clone());
                streams.spawn(async move {
                    if let Err(error) = open(&options, id).await {
                        let reason = format!("{error:#}").replace('\n', " ");
                        let _ = say.send(FromNode::Failed(id, reason));
                    }
                });
            }
            Some(FromProxy::Pong) => {}
            _ => return anyhow::anyhow!("not understood: {line:?}"),
        }
        while streams.try_join_next().is_some() {}
    }
}

/// Writes what is to be said, and asks for signs of life in between.
async fn speak(mut write: OwnedWriteHalf, mut said: mpsc::UnboundedReceiver<FromNode>) {
    loop {
        let message = tokio::select! {
            message = said.recv() => match message {
                Some(message) => message,
                None => return,
            },
            () = sleep(PING) => FromNode::Ping,
        };
        if write.write_all(format!("{message}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Brings one stream to the node's server, and carries it to its end.
async fn open(options: &Options, id: u64) -> Result<()> {
    let token = options.token.clone();
    let hello = Hello::Stream { token, id };
    match &options.target {
        Target::Connect(address) => {
            let server = TcpStream::connect(*address);
            let mut server = timeout(CONNECT, server)
                .await
                .context("no answer in time")
                .and_then(|connected| connected.map_err(Into::into))
                .with_context(|| format!("connect to the SSH server at {address}"))?;
            server.set_nodelay(true)?;
            let mut stream = dial(options.proxy, &hello).await?;
            // The stream was delivered: how it ends is seen at its two ends.
            let _ = carry::both_ways(&mut server, &mut stream).await;
            Ok(())
        }
        Target::Spawn(words) => {
            let stream = dial(options.proxy, &hello).await?.into_std()?;
            spawn(words, stream)?.wait().await.context("wait for the SSH server")?;
            Ok(())
        }
    }
}

/// Starts the command on a stream. The child owns the socket: no byte passes this process.
fn spawn(words: &[OsString], stream: std::net::TcpStream) -> Result<tokio::process::Child> {
    let (program, arguments) = words.split_first().context("the SSH server's command is empty")?;
    // sshd expects reads that wait.
    stream.set_nonblocking(false)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone()?)))
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(stream)))
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

/// Connects to the proxy's tunnel address and says the first line.
async fn dial(proxy: SocketAddr, hello: &Hello) -> Result<TcpStream> {
    let mut stream = timeout(CONNECT, TcpStream::connect(proxy))
        .await
        .context("no answer in time")
        .and_then(|connected| connected.map_err(Into::into))
        .with_context(|| format!("connect to the proxy at {proxy}"))?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("{hello}\n").as_bytes()).await?;
    Ok(stream)
}
