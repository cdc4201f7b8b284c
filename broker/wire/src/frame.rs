//! Frames: what passes on a connection after `POST /v1/exec` was answered with 101.
//!
//! Pure. A frame is its kind in one byte, the length of what follows in four
//! (big-endian), and that. A client that goes away before its last frame has
//! given the command up, as an ssh that was killed has.

pub mod pieces;

use crate::Failure;
use crate::terminal::Size;
use std::fmt;

/// Bytes before what a frame carries.
pub const HEADER: usize = 5;
/// The most that a frame carries.
pub const FRAME_LIMIT: usize = 256 << 10;

/// A frame of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// Standard input.
    Stdin(&'a [u8]),
    /// The end of standard input.
    StdinEnd,
    /// Nobody reads that output any more: what comes on it is dropped, and the command told where the server can.
    Closed(Output),
    /// A signal for the command, by its name without `SIG` (RFC 4254, 6.10).
    Signal(&'a str),
    /// The caller's terminal has this size now.
    Window(Size),
    /// The keys of the session are to be exchanged anew.
    Rekey,
}

/// A frame of the broker's. The last one is `Exit`, `Killed` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromBroker<'a> {
    /// Bytes of an output, as they came.
    Output(Output, &'a [u8]),
    /// What ssh would say about itself at that level of `-v` (0 to 3), one line without its end.
    Debug(u8, &'a str),
    /// The command ended with that status.
    Exit(u32),
    /// The command was ended by the signal of that name.
    Killed(&'a str),
    /// The command's end was not seen; a failure as JSON. Whether it ran is in `Failure::message`.
    Failed(&'a [u8]),
    /// The node gives no terminal, and the command goes on without: the caller's is to be as it was.
    NoTerminal,
    /// Nothing more comes of standard output, while input goes on: half of a connection that `-W` asked for.
    StdoutEnd,
}

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why bytes are no frame. More bytes do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFrame {
    /// No frame of that kind goes that way.
    Kind(u8),
    /// It says that it carries so many bytes.
    Length(usize),
    /// What it carries is not what its kind carries.
    Content(u8),
}

mod kind {
    pub(super) const STDIN: u8 = 0x01;
    pub(super) const STDIN_END: u8 = 0x02;
    pub(super) const CLOSED: u8 = 0x03;
    pub(super) const SIGNAL: u8 = 0x04;
    pub(super) const WINDOW: u8 = 0x05;
    pub(super) const REKEY: u8 = 0x06;
    pub(super) const STDOUT: u8 = 0x11;
    pub(super) const STDERR: u8 = 0x12;
    pub(super) const DEBUG: u8 = 0x13;
    pub(super) const EXIT: u8 = 0x14;
    pub(super) const KILLED: u8 = 0x15;
    pub(super) const FAILED: u8 = 0x16;
    pub(super) const NO_TERMINAL: u8 = 0x17;
    pub(super) const STDOUT_END: u8 = 0x18;
}

impl Output {
    fn kind(self) -> u8 {
        match self {
            Self::Stdout => kind::STDOUT,
            Self::Stderr => kind::STDERR,
        }
    }

    fn of_kind(kind: u8) -> Option<Self> {
        [Self::Stdout, Self::Stderr].into_iter().find(|output| output.kind() == kind)
    }
}

impl<'a> FromClient<'a> {
    /// Appends the frame to `to`. What it carries is cut at [`FRAME_LIMIT`]: split input before.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Stdin(bytes) => put(to, kind::STDIN, bytes),
            Self::StdinEnd => put(to, kind::STDIN_END, &[]),
            Self::Closed(output) => put(to, kind::CLOSED, &[output.kind()]),
            Self::Signal(name) => put(to, kind::SIGNAL, name.as_bytes()),
            Self::Window(size) => put(to, kind::WINDOW, &size.to_bytes()),
            Self::Rekey => put(to, kind::REKEY, &[]),
        }
    }

    /// The header of an input frame that carries `length` bytes, for those who read input to behind it.
    #[must_use]
    pub fn stdin_header(length: u32) -> [u8; HEADER] {
        header(kind::STDIN, length)
    }

    /// The first frame in `bytes` and how many of them it takes; none while it is not all there.
    ///
    /// # Errors
    /// [`BadFrame`], as soon as it shows.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, BadFrame> {
        let Some((kind, carried, taken)) = take(bytes, |kind| (kind::STDIN..=kind::REKEY).contains(&kind))?
        else {
            return Ok(None);
        };
        let bad = Err(BadFrame::Content(kind));
        let frame = match (kind, carried) {
            (kind::STDIN, bytes) => Self::Stdin(bytes),
            (kind::STDIN_END, []) => Self::StdinEnd,
            (kind::CLOSED, [output]) => match Output::of_kind(*output) {
                Some(output) => Self::Closed(output),
                None => return bad,
            },
            (kind::SIGNAL, name) => match name_of(name) {
                Some(name) => Self::Signal(name),
                None => return bad,
            },
            (kind::WINDOW, size) => match Size::from_bytes(size) {
                Some(size) => Self::Window(size),
                None => return bad,
            },
            (kind::REKEY, []) => Self::Rekey,
            _ => return bad,
        };
        Ok(Some((frame, taken)))
    }
}

impl<'a> FromBroker<'a> {
    /// Appends the frame to `to`. What it carries is cut at [`FRAME_LIMIT`]: split output before.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Output(output, bytes) => put(to, output.kind(), bytes),
            Self::Debug(level, line) => {
                let mut carried = vec![*level];
                carried.extend_from_slice(line.as_bytes());
                put(to, kind::DEBUG, &carried);
            }
            Self::Exit(status) => put(to, kind::EXIT, &status.to_be_bytes()),
            Self::Killed(signal) => put(to, kind::KILLED, signal.as_bytes()),
            Self::Failed(json) => put(to, kind::FAILED, json),
            Self::NoTerminal => put(to, kind::NO_TERMINAL, &[]),
            Self::StdoutEnd => put(to, kind::STDOUT_END, &[]),
        }
    }

    /// The header of an output frame that carries `length` bytes, for those who send the bytes from where they lie.
    #[must_use]
    pub fn output_header(output: Output, length: u32) -> [u8; HEADER] {
        header(output.kind(), length)
    }

    /// The first frame in `bytes` and how many of them it takes; none while it is not all there.
    ///
    /// # Errors
    /// [`BadFrame`], as soon as it shows.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, BadFrame> {
        let Some((kind, carried, taken)) =
            take(bytes, |kind| (kind::STDOUT..=kind::STDOUT_END).contains(&kind))?
        else {
            return Ok(None);
        };
        let bad = Err(BadFrame::Content(kind));
        let frame = match (kind, carried) {
            (kind::STDOUT, bytes) => Self::Output(Output::Stdout, bytes),
            (kind::STDERR, bytes) => Self::Output(Output::Stderr, bytes),
            (kind::DEBUG, [level @ 0..=3, line @ ..]) => match std::str::from_utf8(line) {
                Ok(line) => Self::Debug(*level, line),
                Err(_) => return bad,
            },
            (kind::EXIT, &[a, b, c, d]) => Self::Exit(u32::from_be_bytes([a, b, c, d])),
            (kind::KILLED, name) => match name_of(name) {
                Some(name) => Self::Killed(name),
                None => return bad,
            },
            (kind::FAILED, json) => Self::Failed(json),
            (kind::NO_TERMINAL, []) => Self::NoTerminal,
            (kind::STDOUT_END, []) => Self::StdoutEnd,
            _ => return bad,
        };
        Ok(Some((frame, taken)))
    }

    /// The frame that ends a call with `failure`, appended to `to`.
    pub fn encode_failure(failure: &Failure, to: &mut Vec<u8>) {
        // Plain data with string keys cannot fail to become JSON.
        put(to, kind::FAILED, &serde_json::to_vec(failure).unwrap_or_default());
    }
}

fn put(to: &mut Vec<u8>, kind: u8, carried: &[u8]) {
    let carried = &carried[..carried.len().min(FRAME_LIMIT)];
    // At most FRAME_LIMIT.
    to.extend_from_slice(&header(kind, carried.len() as u32));
    to.extend_from_slice(carried);
}

fn header(kind: u8, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind, a, b, c, d]
}

/// Kind, content and whole length of a frame.
type Parts<'a> = (u8, &'a [u8], usize);

/// The first frame, if it is all there.
fn take(bytes: &[u8], is_known: impl Fn(u8) -> bool) -> Result<Option<Parts<'_>>, BadFrame> {
    if let Some(kind) = bytes.first().filter(|kind| !is_known(**kind)) {
        return Err(BadFrame::Kind(*kind));
    }
    let Some((&[kind, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_LIMIT {
        return Err(BadFrame::Length(length));
    }
    Ok(rest.get(..length).map(|carried| (kind, carried, HEADER + length)))
}

/// A signal's name: letters and digits, and `@` for those of a private range.
fn name_of(bytes: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(bytes).ok()?;
    let fine = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic());
    fine.then_some(name)
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "there is no frame of kind {kind:#04x}"),
            Self::Length(length) => write!(f, "a frame of {length} bytes; {FRAME_LIMIT} is the limit"),
            Self::Content(kind) => {
                write!(f, "a frame of kind {kind:#04x} with a content that it cannot have")
            }
        }
    }
}

impl std::error::Error for BadFrame {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;
    use proptest::prelude::*;

    /// PROTOCOL.md is what clients are written from.
    #[track_caller]
    fn is_in_the_prose(bytes: &[u8]) {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let row = format!("| `{}` |", hex.join(" "));
        assert!(include_str!("../../../PROTOCOL.md").contains(&row), "PROTOCOL.md lacks {row}");
    }

    #[test]
    fn frames_are_these_bytes() {
        let size = Size { columns: 80, rows: 24, width: 640, height: 384 };
        let client: [(FromClient<'_>, &[u8]); 6] = [
            (FromClient::Stdin(b"hi"), b"\x01\0\0\0\x02hi"),
            (FromClient::StdinEnd, b"\x02\0\0\0\0"),
            (FromClient::Closed(Output::Stdout), b"\x03\0\0\0\x01\x11"),
            (FromClient::Signal("TERM"), b"\x04\0\0\0\x04TERM"),
            (FromClient::Window(size), b"\x05\0\0\0\x10\0\0\0\x50\0\0\0\x18\0\0\x02\x80\0\0\x01\x80"),
            (FromClient::Rekey, b"\x06\0\0\0\0"),
        ];
        for (frame, bytes) in client {
            let mut encoded = Vec::new();
            frame.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            is_in_the_prose(bytes);
            assert_eq!(FromClient::decode(bytes), Ok(Some((frame, bytes.len()))));
        }
        let broker: [(FromBroker<'_>, &[u8]); 8] = [
            (FromBroker::Output(Output::Stdout, b"a\0b"), b"\x11\0\0\0\x03a\0b"),
            (FromBroker::Output(Output::Stderr, b"e"), b"\x12\0\0\0\x01e"),
            (FromBroker::Debug(1, "x"), b"\x13\0\0\0\x02\x01x"),
            (FromBroker::Exit(258), b"\x14\0\0\0\x04\0\0\x01\x02"),
            (FromBroker::Killed("KILL"), b"\x15\0\0\0\x04KILL"),
            (FromBroker::Failed(b"{}"), b"\x16\0\0\0\x02{}"),
            (FromBroker::NoTerminal, b"\x17\0\0\0\0"),
            (FromBroker::StdoutEnd, b"\x18\0\0\0\0"),
        ];
        for (frame, bytes) in broker {
            let mut encoded = Vec::new();
            frame.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            is_in_the_prose(bytes);
            assert_eq!(FromBroker::decode(bytes), Ok(Some((frame, bytes.len()))));
        }
        assert_eq!(FromBroker::output_header(Output::Stderr, 1), *b"\x12\0\0\0\x01");
        assert_eq!(FromClient::stdin_header(2), *b"\x01\0\0\0\x02");
    }

    #[test]
    fn what_is_no_frame_is_refused_at_once() {
        assert_eq!(FromClient::decode(b"\x11"), Err(BadFrame::Kind(0x11)));
        assert_eq!(FromBroker::decode(b"\x01"), Err(BadFrame::Kind(0x01)));
        assert_eq!(FromBroker::decode(b"\x11\xff\0\0\0"), Err(BadFrame::Length(0xff00_0000)));
        for bytes in [
            &b"\x02\0\0\0\x01x"[..],
            b"\x03\0\0\0\x01\x14",
            b"\x04\0\0\0\0",
            b"\x04\0\0\0\x02a ",
            b"\x05\0\0\0\x01\0",
            b"\x06\0\0\0\x01x",
        ] {
            assert_eq!(FromClient::decode(bytes), Err(BadFrame::Content(bytes[0])));
        }
        for bytes in [
            &b"\x13\0\0\0\x01\x04"[..],
            b"\x13\0\0\0\0",
            b"\x14\0\0\0\x01\0",
            b"\x15\0\0\0\0",
            b"\x17\0\0\0\x01x",
        ] {
            assert_eq!(FromBroker::decode(bytes), Err(BadFrame::Content(bytes[0])));
        }
    }

    #[test]
    fn a_failure_passes_whole() {
        let failure = Failure::new(FailureKind::Cut, "the session ended").hint("natssh status");
        let mut bytes = Vec::new();
        FromBroker::encode_failure(&failure, &mut bytes);
        let Ok(Some((FromBroker::Failed(json), _))) = FromBroker::decode(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(serde_json::from_slice::<Failure>(json).unwrap(), failure);
    }

    proptest! {
        #[test]
        fn a_frame_shows_when_it_is_all_there_and_not_before(carried: Vec<u8>, more: Vec<u8>, cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            FromBroker::Output(Output::Stdout, &carried).encode(&mut bytes);
            let whole = bytes.len();
            prop_assert_eq!(FromBroker::decode(&bytes[..cut.index(whole)]), Ok(None));
            bytes.extend_from_slice(&more);
            prop_assert_eq!(FromBroker::decode(&bytes), Ok(Some((FromBroker::Output(Output::Stdout, &carried), whole))));
        }

        #[test]
        fn a_size_passes_whole(columns: u32, rows: u32, width: u32, height: u32) {
            let size = Size { columns, rows, width, height };
            let mut bytes = Vec::new();
            FromClient::Window(size).encode(&mut bytes);
            prop_assert_eq!(FromClient::decode(&bytes), Ok(Some((FromClient::Window(size), bytes.len()))));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
            let _ = (FromClient::decode(&bytes), FromBroker::decode(&bytes));
        }
    }
}
