//! What the reader of a server's first bytes keeps to. See [`crate::fuzzing`].

use super::first_word::objection;

/// The first bytes of a server: what is wrong with them stays wrong, whatever follows.
pub fn first_word(bytes: &[u8]) {
    let whole = objection(bytes);
    for end in 0..bytes.len().min(16) {
        let part = objection(&bytes[..end]);
        assert!(part.is_none() || part == whole, "{part:?} of the first {end} bytes, and then {whole:?}");
    }
    assert!(whole.is_none() || !bytes.starts_with(b"SSH-"), "an SSH server is refused: {whole:?}");
}
