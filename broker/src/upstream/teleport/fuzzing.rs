//! What the reader of a proxy's refusals keeps to. See [`crate::fuzzing`].

use super::refusal::{Refusal, idle_limit, read};
use crate::fuzzing::is_one_line;
use natssh_wire::NodeAddr;
use std::time::Duration;

/// A subsystem's error text: whatever it says, a person is told one line that can be read, and a limit that can be kept.
pub fn refusal(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let node = NodeAddr { host: "worker-1.example.com".into(), port: 22 };
    let (Refusal::WantsAgent(failure) | Refusal::MayRejoin(failure) | Refusal::Final(failure)) =
        read(&text, &node);
    is_one_line(&failure.message);
    assert!(failure.message.chars().count() < 700, "{} characters", failure.message.chars().count());
    assert!(idle_limit(&text).is_none_or(|limit| limit <= Duration::from_secs(1_000_000_000)));
}
