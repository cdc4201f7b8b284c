//! The supervisor's end of the control socket.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::{Reply, Request};
use crate::state::Folder;
use crate::supervisor::Order;

/// The longest order, in bytes.
const LONGEST: u64 = 4096;
/// How long who connects may take to give its order.
const PATIENCE: Duration = Duration::from_secs(5);

/// Open as long as it lives. The folder is private, and so is the socket.
#[derive(Debug)]
pub struct Door(AbortHandle);

impl Door {
    /// Opens the socket and passes what comes in to `orders`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(folder: &Folder, orders: mpsc::Sender<Order>) -> Result<Self> {
        let path = folder.control();
        let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
        Ok(Self(tokio::spawn(accept(listener, orders)).abort_handle()))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: UnixListener, orders: mpsc::Sender<Order>) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    visitors.spawn(serve(stream, orders.clone()));
                }
                // Out of descriptors: they come back when visitors leave.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = visitors.join_next() => {}
        }
    }
}

/// One order, one answer. Errors are the visitor's: it is gone.
async fn serve(stream: UnixStream, orders: mpsc::Sender<Order>) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LONGEST));
    let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await else {
        return;
    };
    let reply = match serde_json::from_str::<Request>(&line) {
        Err(error) => Reply::Failed(format!("not an order: {error}")),
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let passed = orders.send((request, answer)).await;
            match (passed, answered.await) {
                (Ok(()), Ok(reply)) => reply,
                _ => Reply::Failed("the lab is going down".to_owned()),
            }
        }
    };
    if let Ok(text) = serde_json::to_string(&reply) {
        let _ = write.write_all(format!("{text}\n").as_bytes()).await;
    }
}
