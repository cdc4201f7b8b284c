//! Frames that go out together: headers, and bytes from where they lie.

use bytes::{Buf, Bytes};
use natssh_wire::frame::{FRAME_LIMIT, FromBroker, Output};
use std::collections::VecDeque;
use std::io::IoSlice;

/// What is gathered before it is written, at most.
const FULL: usize = 1 << 20;

/// Frames to be written; a [`Buf`], so that one system call takes many parts.
#[derive(Debug, Default)]
pub(super) struct Batch {
    parts: VecDeque<Bytes>,
    length: usize,
    /// The output that bytes are being added to, where its header stands in `parts`, and how much it carries.
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    output: Output,
    header: usize,
    carried: usize,
}

impl Batch {
    /// Adds bytes of an output: to its frame, if that is the last one and has room.
    pub(super) fn output(&mut self, output: Output, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let open = self.open.filter(|open| open.output == output && open.carried < FRAME_LIMIT);
            let mut open = open.unwrap_or_else(|| {
                self.add(Bytes::new());
                Open { output, header: self.parts.len() - 1, carried: 0 }
            });
            let part = bytes.split_to(bytes.len().min(FRAME_LIMIT - open.carried));
            open.carried += part.len();
            self.add(part);
            self.open = Some(open);
            self.write_header(open);
        }
    }

    /// Adds another frame.
    pub(super) fn frame(&mut self, frame: &FromBroker<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.open = None;
        self.add(bytes.into());
    }

    /// Whether it should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.length >= FULL
    }

    fn add(&mut self, part: Bytes) {
        self.length += part.len();
        self.parts.push_back(part);
    }

    fn write_header(&mut self, open: Open) {
        // At most FRAME_LIMIT.
        let header = FromBroker::output_header(open.output, open.carried as u32);
        let place = &mut self.parts[open.header];
        self.length += header.len() - place.len();
        *place = Bytes::copy_from_slice(&header);
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let filled = into.iter_mut().zip(&self.parts);
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        // Nothing is added to what has begun to be written.
        self.open = None;
        self.length -= count;
        while let Some(part) = self.parts.front_mut() {
            if part.len() > count {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_of_one_output_share_a_frame_and_no_frame_is_too_long() {
        let mut batch = Batch::default();
        batch.output(Output::Stdout, Bytes::from_static(b"ab"));
        batch.output(Output::Stdout, Bytes::from_static(b"c"));
        batch.output(Output::Stderr, Bytes::from_static(b"e"));
        batch.frame(&FromBroker::Exit(1));
        let length = batch.remaining();
        let bytes = batch.copy_to_bytes(length);
        assert_eq!(&bytes[..], b"\x11\0\0\0\x03abc\x12\0\0\0\x01e\x14\0\0\0\x04\0\0\0\x01");

        batch.output(Output::Stdout, vec![7; FRAME_LIMIT + 1].into());
        let length = batch.remaining();
        let bytes = batch.copy_to_bytes(length);
        let Ok(Some((FromBroker::Output(_, first), taken))) = FromBroker::decode(&bytes) else { panic!() };
        let Ok(Some((FromBroker::Output(_, second), _))) = FromBroker::decode(&bytes[taken..]) else {
            panic!()
        };
        assert_eq!((first.len(), second.len()), (FRAME_LIMIT, 1));
    }

    proptest! {
        #[test]
        fn whatever_is_written_at_once_the_bytes_are_the_same(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..20),
            writes in prop::collection::vec(1usize..30, 1..20),
        ) {
            let mut batch = Batch::default();
            let (mut outputs, mut heard) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            for (is_stderr, bytes) in parts {
                outputs[usize::from(is_stderr)].extend_from_slice(&bytes);
                batch.output(if is_stderr { Output::Stderr } else { Output::Stdout }, bytes.into());
            }
            let mut written = Vec::new();
            for write in writes.iter().cycle().take_while(|_| true) {
                if !batch.has_remaining() {
                    break;
                }
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = batch.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let count = all.len().min(*write);
                written.extend_from_slice(&all[..count]);
                batch.advance(count);
            }
            let mut rest = &written[..];
            while let Some((frame, taken)) = FromBroker::decode(rest).unwrap() {
                let FromBroker::Output(output, bytes) = frame else { panic!("{frame:?}") };
                heard[usize::from(output == Output::Stderr)].extend_from_slice(bytes);
                rest = &rest[taken..];
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(heard, outputs);
        }
    }
}
