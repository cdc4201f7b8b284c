//! The head of an answer, decoded from whatever bytes have come so far.
//!
//! No I/O. A client peeks at its socket and asks [`decode_response`] again as
//! bytes come; it learns exactly where the head ends, because behind the blank
//! line of a `200` the node's own bytes follow at once.

use crate::exec::{NO_STDIN, STDIN_HEADER};
use crate::request::PROTOCOL_HEADER;
use crate::terminal::{self, Granted};
use crate::{Failure, FailureKind};

/// An answer whose head is longer is not the broker's.
pub const HEAD_LIMIT: usize = 16 * 1024;
/// A body of `GET` or of a failure that is longer is refused.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// What the first bytes of an answer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// All of them belong to the head, and it is not over.
    Incomplete,
    /// A whole head.
    Head(ResponseHead),
    /// No answer of a broker; one sentence says why. More bytes do not change it.
    Bad(String),
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The version of the local API that the broker speaks; none if it did not say.
    pub protocol: Option<u32>,
    /// The length of the body; none means until the end of the stream.
    pub content_length: Option<u64>,
    /// The terminal that a node is asked for, with a 101.
    pub terminal: Option<Granted>,
    /// The answer to an exec says that nothing of standard input is wanted.
    pub no_stdin: bool,
    /// How many bytes the head takes, its blank line included.
    pub consumed: usize,
}

/// Decodes the head of an answer from its first bytes.
///
/// Whatever it says other than [`Decoded::Incomplete`] holds for every longer input too.
#[must_use]
pub fn decode_response(bytes: &[u8]) -> Decoded {
    const START: &[u8] = b"HTTP/1.1 ";
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Decoded::Bad("the answer is not HTTP/1.1".into());
    }
    let window = &bytes[..bytes.len().min(HEAD_LIMIT)];
    let end = match find_end(window) {
        Ok(Some(end)) => end,
        Ok(None) if bytes.len() >= HEAD_LIMIT => {
            return Decoded::Bad(format!("the head of the answer is longer than {HEAD_LIMIT} bytes"));
        }
        Ok(None) => return Decoded::Incomplete,
        Err(byte) => return Decoded::Bad(format!("the head of the answer holds the byte {byte:#04x}")),
    };
    match read_head(&window[..end]) {
        Ok(head) => Decoded::Head(head),
        Err(sentence) => Decoded::Bad(sentence),
    }
}

/// The failure that an answer carries; a body that is no `Failure` still gives one.
#[must_use]
pub fn decode_failure(status: u16, body: &[u8]) -> Failure {
    if let Ok(failure) = serde_json::from_slice::<Failure>(body) {
        return failure;
    }
    let kind = match status {
        400 | 404 | 405 | 414 | 431 => FailureKind::BadRequest,
        403 => FailureKind::Denied,
        408 | 504 => FailureKind::Timeout,
        426 => FailureKind::Version,
        502 => FailureKind::Protocol,
        503 => FailureKind::Busy,
        _ => FailureKind::Internal,
    };
    let text: String = String::from_utf8_lossy(&body[..body.len().min(200)])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let message = match text.as_str() {
        "" => format!("the broker answered {status} without a reason"),
        text => format!("the broker answered {status}: {text}"),
    };
    Failure::new(kind, message).hint("natssh broker logs")
}

/// The offset just behind the blank line, or the byte that may not be in a head.
fn find_end(bytes: &[u8]) -> Result<Option<usize>, u8> {
    for (at, &byte) in bytes.iter().enumerate() {
        let after_cr = bytes[..at].last() == Some(&b'\r');
        match byte {
            b'\n' if !after_cr => return Err(byte),
            b'\n' if bytes[..at].ends_with(b"\r\n\r") => return Ok(Some(at + 1)),
            b'\n' => {}
            // A CR means the end of a line and nothing else.
            _ if after_cr => return Err(b'\r'),
            b'\t' | b'\r' => {}
            0..=31 | 127 => return Err(byte),
            _ => {}
        }
    }
    Ok(None)
}

fn read_head(head: &[u8]) -> Result<ResponseHead, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let code = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let status = match code.parse::<u16>() {
        Ok(status @ (101 | 200..=599)) if code.len() == 3 => status,
        _ => return Err(format!("the answer has the status {code:?}")),
    };
    let mut answer = ResponseHead {
        status,
        protocol: None,
        content_length: None,
        terminal: None,
        no_stdin: false,
        consumed: head.len(),
    };
    for line in lines.filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("the answer has the header line {line:?}"));
        };
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case(PROTOCOL_HEADER) {
            set_once(&mut answer.protocol, name, value)?;
        } else if name.eq_ignore_ascii_case("content-length") {
            set_once(&mut answer.content_length, name, value)?;
        } else if name.eq_ignore_ascii_case(terminal::HEADER) {
            let granted = Granted::from_header(value);
            answer.terminal =
                Some(granted.ok_or_else(|| format!("the answer has a wrong {name}: {value:?}"))?);
        } else if name.eq_ignore_ascii_case(STDIN_HEADER) {
            answer.no_stdin = value == NO_STDIN;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer is sent in chunks, which this client does not read".into());
        }
    }
    Ok(answer)
}

fn set_once<T: std::str::FromStr>(slot: &mut Option<T>, name: &str, value: &str) -> Result<(), String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits && slot.is_none() => {
            *slot = Some(number);
            Ok(())
        }
        _ => Err(format!("the answer has a wrong or second {name}: {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OK: &[u8] = b"HTTP/1.1 200 Connected\r\nNatssh-Protocol: 1\r\n\r\nSSH-2.0-node\r\n";

    #[test]
    fn a_head_ends_where_the_banner_begins() {
        let Decoded::Head(head) = decode_response(OK) else { panic!("no head") };
        assert_eq!((head.status, head.protocol, head.content_length), (200, Some(1), None));
        assert_eq!(&OK[head.consumed..], b"SSH-2.0-node\r\n");
    }

    #[test]
    fn a_terminal_is_told_of_in_the_head() {
        let answer = |line: &str| format!("HTTP/1.1 101 x\r\nNatssh-Protocol: 1\r\n{line}\r\n\r\n");
        let Decoded::Head(head) = decode_response(answer("Natssh-Terminal: 126").as_bytes()) else {
            panic!()
        };
        assert_eq!(head.terminal, Some(Granted { escape: Some(b'~') }));
        let Decoded::Head(head) = decode_response(answer("natssh-terminal: none").as_bytes()) else {
            panic!()
        };
        assert_eq!(head.terminal, Some(Granted { escape: None }));
        assert!(matches!(decode_response(answer("natssh-terminal: ~").as_bytes()), Decoded::Bad(_)));
    }

    #[test]
    fn what_is_no_answer_is_refused_at_once() {
        for (bytes, word) in [
            (&b"SSH-2.0-OpenSSH"[..], "not HTTP/1.1"),
            (b"\0", "not HTTP/1.1"),
            (b"HTTP/1.1 200 OK\n", "0x0a"),
            (b"HTTP/1.1 200 OK\rX", "0x0d"),
            (b"HTTP/1.1 20 OK\r\n\r\n", "status"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "status"),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header line"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "second"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"),
        ] {
            let Decoded::Bad(sentence) = decode_response(bytes) else { panic!("{bytes:?} was accepted") };
            assert!(sentence.contains(word), "{sentence:?} lacks {word:?}");
        }
        let mut long = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        long.resize(HEAD_LIMIT, b'x');
        assert!(matches!(decode_response(&long[..HEAD_LIMIT - 1]), Decoded::Incomplete));
        assert!(matches!(decode_response(&long), Decoded::Bad(s) if s.contains("longer")));
    }

    #[test]
    fn a_body_that_is_no_failure_still_says_something() {
        let known = Failure::new(FailureKind::Offline, "node web-3 is offline").hint("natssh why web-3");
        assert_eq!(decode_failure(502, &serde_json::to_vec(&known).unwrap()), known);
        assert_eq!(decode_failure(400, b"").kind, FailureKind::BadRequest);
        let text = decode_failure(500, b"thread panicked\n at x").message;
        assert_eq!(text, "the broker answered 500: thread panicked at x");
        let newer = decode_failure(502, br#"{"kind":"from_the_future","message":"m","hint":null,"more":1}"#);
        assert_eq!((newer.kind, newer.message.as_str()), (FailureKind::Internal, "m"));
    }

    /// Bytes that are close enough to an answer to reach the depths of the decoder.
    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            "[A-Za-z-]{1,12}: [ -~]{0,20}",
            "Content-Length: [0-9]{1,3}",
            "(natssh-protocol|Natssh-Protocol): [0-9]{1,2}",
            "[\\x00-\\x7f]{0,8}",
        ];
        (100..700u16, prop::collection::vec(line, 0..5), prop::collection::vec(any::<u8>(), 0..40)).prop_map(
            |(status, lines, rest)| {
                let mut bytes = format!("HTTP/1.1 {status} Words\r\n").into_bytes();
                for line in lines {
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"\r\n");
                bytes.extend(rest);
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), status: u16) {
            let _ = decode_response(&bytes);
            let _ = decode_failure(status, &bytes);
        }

        #[test]
        fn every_split_gives_the_same_answer(bytes in prop_oneof![answers(), prop::collection::vec(any::<u8>(), 0..60)]) {
            let whole = decode_response(&bytes);
            for split in 0..=bytes.len() {
                let part = decode_response(&bytes[..split]);
                if let Decoded::Head(head) = &part {
                    prop_assert!(head.consumed <= split);
                    prop_assert!(bytes[..head.consumed].ends_with(b"\r\n\r\n"));
                }
                prop_assert!(part == Decoded::Incomplete || part == whole, "{split}: {part:?} against {whole:?}");
            }
        }
    }
}
