//! What a recording proxy does first: it asks the user's agent, through the
//! client, for its keys.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use russh::server::Handle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The longest wait for the agent.
const PATIENCE: Duration = Duration::from_secs(10);
/// SSH_AGENTC_REQUEST_IDENTITIES, with its length before it.
const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];
/// SSH_AGENT_IDENTITIES_ANSWER.
const IDENTITIES_ANSWER: u8 = 12;
/// The longest answer that is read.
const LONGEST: usize = 256 * 1024;

/// Opens a channel to the agent, lists its keys, closes the channel.
///
/// # Errors
/// When there is no agent, or one without keys: the proxy could not log in.
pub(crate) async fn list_keys(handle: &Handle) -> Result<()> {
    timeout(PATIENCE, ask(handle)).await.context("no answer in time")?
}

async fn ask(handle: &Handle) -> Result<()> {
    let channel = handle.channel_open_agent().await.context("the client opens no channel to it")?;
    let mut agent = channel.into_stream();
    agent.write_all(&REQUEST_IDENTITIES).await?;
    let length = agent.read_u32().await? as usize;
    ensure!((5..=LONGEST).contains(&length), "an answer of {length} bytes");
    let mut answer = vec![0; length];
    agent.read_exact(&mut answer).await?;
    ensure!(answer[0] == IDENTITIES_ANSWER, "an answer of type {}", answer[0]);
    let keys = u32::from_be_bytes([answer[1], answer[2], answer[3], answer[4]]);
    let _ = agent.shutdown().await;
    ensure!(keys > 0, "it holds no keys");
    tracing::info!(keys, "listed the keys of a user's agent");
    Ok(())
}
