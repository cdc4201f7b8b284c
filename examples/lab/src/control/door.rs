//! The supervisor's end of the control socket.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::{Reply, Request};
use crate::state::Folder;
use crate::supervisor::Order;

/// The longest order, in bytes.
const LONGEST: u64 = 4096;
/// How long who connects may take to give its order.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long answers may take to leave when the door closes.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// An open door. The folder is private, and so is the socket.
#[derive(Debug)]
pub struct Door {
    closing: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Door {
    /// Opens the socket and passes what comes in to `orders`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(folder: &Folder, orders: mpsc::Sender<Order>) -> Result<Self> {
        let path = folder.control();
        let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
        let (closing, closed) = oneshot::channel();
        let task = tokio::spawn(accept(listener, orders, closed));
        Ok(Self { closing, task })
    }

    /// Lets nobody in any more, and those who are in leave with their answers.
    pub async fn close(self) {
        drop(self.closing);
        let _ = self.task.await;
    }
}

async fn accept(listener: UnixListener, orders: mpsc::Sender<Order>, mut closed: oneshot::Receiver<()>) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut closed => break,
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
    let leave = async { while visitors.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_ANSWERS, leave).await;
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
