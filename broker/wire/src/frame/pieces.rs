//! The broker's frames as they come in, however they are cut.
//!
//! Pure. The bytes of an output need not wait for the rest of their frame, so a
//! client holds no more than it reads at once; every other frame is short, and
//! is held until it is whole.

use super::{BadFrame, FromBroker, HEADER, Output};

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of an output.
    Output(Output, &'a [u8]),
    /// A whole frame of another kind.
    Frame(FromBroker<'a>),
}

/// Where in the frames a client is.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The beginning of a frame, or a whole one that was handed out.
    held: Vec<u8>,
    is_handed_out: bool,
    /// The output whose frame has begun, and how many bytes of it are to come.
    passing: Option<(Output, usize)>,
}

impl Pieces {
    /// The next piece; `bytes` begins behind it then. None when all bytes are used up.
    ///
    /// # Errors
    /// [`BadFrame`]; nothing that follows can be understood.
    pub fn next<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'a>>, BadFrame> {
        if std::mem::take(&mut self.is_handed_out) {
            self.held.clear();
        }
        while self.passing.is_none() {
            let wanted = match self.held.first_chunk::<HEADER>() {
                None => HEADER,
                Some([_, length @ ..]) => HEADER + u32::from_be_bytes(*length) as usize,
            };
            let more;
            (more, *bytes) = bytes.split_at(bytes.len().min(wanted - self.held.len()));
            self.held.extend_from_slice(more);
            match FromBroker::decode(&self.held)? {
                Some((FromBroker::Output(..), _)) => self.held.clear(),
                Some(_) => break,
                None => self.passing = begun_output(&self.held),
            }
            if self.passing.is_some() {
                self.held.clear();
            } else if bytes.is_empty() {
                return Ok(None);
            }
        }
        match &mut self.passing {
            Some(_) if bytes.is_empty() => Ok(None),
            Some((output, left)) => {
                let (output, now) = (*output, bytes.len().min(*left));
                let carried;
                (carried, *bytes) = bytes.split_at(now);
                self.passed(now);
                Ok(Some(Piece::Output(output, carried)))
            }
            None => {
                self.is_handed_out = true;
                Ok(FromBroker::decode(&self.held)?.map(|(frame, _)| Piece::Frame(frame)))
            }
        }
    }

    /// The output whose bytes come next, and how many of them, for those who take them past [`Self::next`].
    #[must_use]
    pub fn passing(&self) -> Option<(Output, usize)> {
        self.passing
    }

    /// So many of these were taken.
    pub fn passed(&mut self, count: usize) {
        self.passing =
            self.passing.map(|(output, left)| (output, left - count)).filter(|(_, left)| *left > 0);
    }
}

/// The output that a frame is of, and its length, where its header is all that has come of it.
fn begun_output(header: &[u8]) -> Option<(Output, usize)> {
    let (&[kind, a, b, c, d], []) = header.split_first_chunk::<HEADER>()? else { return None };
    Some((Output::of_kind(kind)?, u32::from_be_bytes([a, b, c, d]) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What frames say in the end: the bytes of both outputs, and the other frames' own bytes.
    #[derive(Debug, Default, PartialEq)]
    struct Said {
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        frames: Vec<u8>,
    }

    impl Said {
        fn hear(&mut self, piece: &Piece<'_>) {
            match piece {
                Piece::Output(Output::Stdout, bytes) => self.stdout.extend_from_slice(bytes),
                Piece::Output(Output::Stderr, bytes) => self.stderr.extend_from_slice(bytes),
                Piece::Frame(frame) => frame.encode(&mut self.frames),
            }
        }
    }

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let encoded = |frame: FromBroker<'_>| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            bytes
        };
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..30)
                .prop_map(move |b| encoded(FromBroker::Output(Output::Stdout, &b))),
            prop::collection::vec(any::<u8>(), 0..30)
                .prop_map(move |b| encoded(FromBroker::Output(Output::Stderr, &b))),
            "[a-z ]{0,20}".prop_map(move |line| encoded(FromBroker::Debug(2, &line))),
            any::<u32>().prop_map(move |status| encoded(FromBroker::Exit(status))),
            Just(encoded(FromBroker::NoTerminal)),
        ]
    }

    proptest! {
        #[test]
        fn however_frames_are_cut_they_say_the_same(
            frames in prop::collection::vec(frame(), 0..8),
            reads in prop::collection::vec(1usize..20, 1..40),
        ) {
            let (mut expected, mut heard) = (Said::default(), Said::default());
            for frame in &frames {
                let (frame, _) = FromBroker::decode(frame).unwrap().unwrap();
                expected.hear(&match frame {
                    FromBroker::Output(output, bytes) => Piece::Output(output, bytes),
                    frame => Piece::Frame(frame),
                });
            }
            let bytes = frames.concat();
            let (mut rest, mut reads, mut pieces) = (&bytes[..], reads.iter().cycle(), Pieces::default());
            while !rest.is_empty() {
                let mut read;
                (read, rest) = rest.split_at(rest.len().min(*reads.next().unwrap()));
                while let Some(piece) = pieces.next(&mut read).unwrap() {
                    heard.hear(&piece);
                }
                prop_assert!(read.is_empty());
            }
            prop_assert_eq!(heard, expected);
            prop_assert_eq!(pieces.passing(), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let (mut rest, mut pieces) = (&bytes[..], Pieces::default());
            while let Ok(Some(_)) = pieces.next(&mut rest) {}
        }
    }

    #[test]
    fn an_output_can_be_taken_past_it() {
        let mut pieces = Pieces::default();
        let mut bytes = &b"\x11\0\0\0\x05ab"[..];
        assert_eq!(pieces.next(&mut bytes), Ok(Some(Piece::Output(Output::Stdout, b"ab"))));
        assert_eq!(pieces.next(&mut bytes), Ok(None));
        assert_eq!(pieces.passing(), Some((Output::Stdout, 3)));
        pieces.passed(3);
        let mut bytes = &b"\x14\0\0\0\x04\0\0\0\x07"[..];
        assert_eq!(pieces.next(&mut bytes), Ok(Some(Piece::Frame(FromBroker::Exit(7)))));
    }

    #[test]
    fn a_frame_that_does_not_exist_is_refused_with_its_first_byte() {
        assert_eq!(Pieces::default().next(&mut &b"\x10"[..]), Err(BadFrame::Kind(0x10)));
    }
}
