//! What the reader of a ProxyCommand's stderr keeps to. See [`crate::fuzzing`].

use super::heard::Heard;
use crate::fuzzing::is_one_line;

/// The last words of a command are one line, and the same however they came.
pub fn command_stderr(bytes: &[u8]) {
    let (mut whole, mut pieces) = (Heard::default(), Heard::default());
    whole.take(bytes);
    bytes.chunks(7).for_each(|piece| pieces.take(piece));
    is_one_line(&whole.last_words());
    assert_eq!(whole.last_words(), pieces.last_words());
}
