//! Nodes beside those that the lab brings: one that listens, and one that a
//! story plays itself.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use natssh_lab::agent::{self, Target};
use natssh_lab::node::AgentFile;
use natssh_lab::tunnel::NodeName;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// A TCP server on a free port of this machine; it listens until it is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    task: AbortHandle,
}

impl Listening {
    /// Hands every connection to `serve`, on a thread of its own.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(runtime: &Handle, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve.clone();
                let stream = stream.into_std().and_then(|s| s.set_nonblocking(false).map(|()| s));
                std::thread::spawn(move || stream.map(serve));
            }
        };
        Self { address, task: runtime.spawn(accept).abort_handle() }
    }

    /// An sshd for each connection, by this configuration.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn sshd(runtime: &Handle, config: &Path) -> Self {
        let config = config.to_owned();
        Self::start(runtime, move |stream| {
            let mut sshd = start_sshd(&config, stream).expect("sshd starts");
            let _ = sshd.wait();
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start_sshd(config: &Path, stream: TcpStream) -> std::io::Result<Child> {
    let sshd = natssh_lab::tools::find("sshd").ok_or(std::io::ErrorKind::NotFound)?;
    let output = stream.try_clone()?;
    Command::new(sshd)
        .args(["-i", "-f"])
        .arg(config)
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::null())
        .spawn()
}

/// Further nodes of a lab, each registered until this is dropped.
#[derive(Debug, Default)]
pub struct Joined(Mutex<Vec<AbortHandle>>);

impl Joined {
    /// Registers a node whose streams go to `server`, with the secret of the
    /// lab's node that was told so in `orders`.
    ///
    /// # Panics
    /// When the orders cannot be read.
    pub fn join(&self, runtime: &Handle, orders: &Path, name: &str, server: SocketAddr) {
        let mut options = AgentFile::read(orders).expect("the lab has written it");
        options.node = NodeName { hostname: name.to_owned(), uuid: format!("{name}-of-the-story") };
        options.target = Target::Connect(server);
        let agent = runtime.spawn(async move { match agent::run(options).await {} });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(agent.abort_handle());
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let agents = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        agents.iter().for_each(AbortHandle::abort);
    }
}
