//! How an SSH server refuses before anything has been agreed on: a client that
//! has its stream already hears the reason in the only words that it knows.

use super::GREETING;

/// SSH_MSG_DISCONNECT (RFC 4253, 12).
const DISCONNECT: u8 = 1;
/// SSH_DISCONNECT_SERVICE_NOT_AVAILABLE (RFC 4253, 11.1).
const NOT_AVAILABLE: u32 = 7;
/// Packets are multiples of this before keys are taken into use (RFC 4253, 6).
const BLOCK: usize = 8;
/// The least padding, and what a packet's length and the padding's take.
const LEAST_PADDING: usize = 4;
const LENGTHS: usize = 5;

/// An identification and a disconnect message that says `sentence`. OpenSSH shows the first 400 bytes of it.
#[must_use]
pub fn refuse(sentence: &str) -> Vec<u8> {
    // The length of a description is the peer's to believe: no sentence is near the limit of a packet.
    let length = u32::try_from(sentence.len()).unwrap_or_default();
    let message = [
        &[DISCONNECT][..],
        &NOT_AVAILABLE.to_be_bytes(),
        &length.to_be_bytes(),
        sentence.as_bytes(),
        // No language tag.
        &0_u32.to_be_bytes(),
    ]
    .concat();
    let padding = LEAST_PADDING + BLOCK - (LENGTHS + message.len() + LEAST_PADDING) % BLOCK;
    let packet = u32::try_from(1 + message.len() + padding).unwrap_or_default();
    [
        GREETING.as_bytes(),
        &packet.to_be_bytes(),
        &[u8::try_from(padding).unwrap_or_default()],
        &message,
        &vec![0; padding],
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_refusal_is_a_greeting_and_one_whole_packet(sentence in "\\PC{0,300}") {
            let bytes = refuse(&sentence);
            let packet = bytes.strip_prefix(GREETING.as_bytes()).unwrap();
            prop_assert_eq!(packet.len() % BLOCK, 0);
            let (length, rest) = packet.split_first_chunk().unwrap();
            prop_assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
            let padding = usize::from(rest[0]);
            prop_assert!((4..=255).contains(&padding));
            let message = &rest[1..rest.len() - padding];
            prop_assert_eq!(message[0], DISCONNECT);
            let (text, language) = message[9..].split_at(message.len() - 13);
            prop_assert_eq!(text, sentence.as_bytes());
            prop_assert_eq!(&message[5..9], &u32::try_from(text.len()).unwrap().to_be_bytes()[..]);
            prop_assert_eq!(language, &[0; 4][..]);
        }
    }
}
