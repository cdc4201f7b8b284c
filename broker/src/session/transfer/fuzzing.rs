//! What the reader of an SFTP server's bytes keeps to. See [`crate::fuzzing`].

use super::packet::{Nonsense, decode_answer, decode_room, decode_version, take};
use bytes::{Bytes, BytesMut};

/// What a server says: its packets are the same however they are cut, and none is longer than what came.
pub fn sftp_answers(bytes: &[u8]) {
    let (whole, end) = packets(&[bytes]);
    for split in (0..=bytes.len()).step_by(bytes.len() / 64 + 1) {
        let (first, second) = bytes.split_at(split);
        assert_eq!(packets(&[first, second]), (whole.clone(), end), "cut at {split}");
    }
    assert!(whole.iter().map(|packet| packet.len() + 4).sum::<usize>() <= bytes.len());
    for packet in whole {
        let _ = decode_version(packet.clone());
        let _ = decode_room(packet.clone());
        let _ = decode_answer(packet);
    }
}

/// All packets of reads, and whether there was nonsense.
fn packets(reads: &[&[u8]]) -> (Vec<Bytes>, Result<(), Nonsense>) {
    let (mut heard, mut packets) = (BytesMut::new(), Vec::new());
    for read in reads {
        heard.extend_from_slice(read);
        loop {
            match take(&mut heard) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(nonsense) => return (packets, Err(nonsense)),
            }
        }
    }
    (packets, Ok(()))
}
