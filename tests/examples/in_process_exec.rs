//! What running a command on a node costs inside one process: the least that any program with a warm session
//! can take. `make bench` compares `natssh NODE true` with it.
//!
//! `in_process_exec PORT LOGIN KEY HOST_KEY`: connects to the sshd at that port of 127.0.0.1. For each line on stdin
//! it runs `true` on a channel of its own, to the channel's end, and prints how many nanoseconds that took.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use russh::ChannelMsg;
use russh::client::{Config, Handle, Handler, connect};
use russh::keys::{
    PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, load_public_key, load_secret_key,
};

struct Node(PublicKey);

impl Handler for Node {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(
            matches!(presented, PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.0.key_data()),
        )
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, login, key, host_key] = words.as_slice() else {
        bail!("usage: in_process_exec PORT LOGIN KEY HOST_KEY")
    };
    let port: u16 = port.parse().context("the port")?;
    let node = Node(load_public_key(host_key).context("read the host key")?);
    let config = Config { nodelay: true, ..Config::default() };
    let mut session = connect(Arc::new(config), ("127.0.0.1", port), node).await.context("connect")?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(key, None).context("read the key")?), None);
    ensure!(session.authenticate_publickey(login, key).await?.success(), "the node refused the key");
    let mut line = String::new();
    while std::io::stdin().lock().read_line(&mut line)? > 0 {
        let begun = Instant::now();
        run(&session).await?;
        println!("{}", begun.elapsed().as_nanos());
        std::io::stdout().flush()?;
        line.clear();
    }
    Ok(())
}

async fn run(session: &Handle<Node>) -> Result<()> {
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, "true").await?;
    let mut status = None;
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::ExitStatus { exit_status } = message {
            status = Some(exit_status);
        }
    }
    ensure!(status == Some(0), "true ended with {status:?}");
    Ok(())
}
