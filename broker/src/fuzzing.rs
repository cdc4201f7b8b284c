//! What every reader of foreign bytes keeps to, whatever the bytes: one function a reader.
//!
//! A function here panics when a promise is broken, and does nothing else. It is
//! built for two callers alone, so that they cannot drift apart: the tests, which
//! replay `fuzz/corpus`, and cargo-fuzz (`make fuzz`), which looks for new bytes.
//! Functions that need to see private parts stand beside those.

use crate::known_hosts::{Dialect, HostNames, KnownHosts, Line, lookup_name};
use crate::text::one_line;
use natssh_wire::exec::{EXEC_BODY_LIMIT, ExecRequest};
use natssh_wire::file::FileRequest;
use natssh_wire::frame::pieces::{Piece, Pieces};
use natssh_wire::frame::{FromBroker, FromClient, Output};
use natssh_wire::head::{Decoded, decode_failure, decode_response};
use natssh_wire::request::{MAX_TIMEOUT, check_protocol, encode_exec, percent_decode, percent_encode};
use natssh_wire::ssh_words::Invocation;
use natssh_wire::{ConnectRequest, Word, status};

pub use crate::config::fuzzing::config;
pub use crate::doctor::fuzzing::ansible_cfg;
pub use crate::identity::fuzzing::{agent_answer, certificate, identity_file, tsh_profile};
pub use crate::session::transfer::fuzzing::sftp_answers;
pub use crate::ssh::fuzzing::first_word;
pub use crate::upstream::fuzzing::{command_stderr, refusal};

/// Reads bytes, and panics when a promise is broken.
pub type Reader = fn(&[u8]);

/// Each reader by the name of its folder in `fuzz/corpus`.
pub const READERS: [(&str, Reader); 18] = [
    ("agent_answer", agent_answer),
    ("ansible_cfg", ansible_cfg),
    ("answer", answer),
    ("certificate", certificate),
    ("command_stderr", command_stderr),
    ("config", config),
    ("exec_request", exec_request),
    ("file_request", file_request),
    ("first_word", first_word),
    ("frames", frames),
    ("identity_file", identity_file),
    ("known_hosts", known_hosts),
    ("one_line_text", one_line_text),
    ("refusal", refusal),
    ("request", request),
    ("sftp_answers", sftp_answers),
    ("ssh_words", ssh_words),
    ("tsh_profile", tsh_profile),
];

/// An answer of the local API, as the shim reads it: it means the same however it is cut in pieces.
pub fn answer(bytes: &[u8]) {
    let whole = decode_response(bytes);
    for split in (0..=bytes.len()).step_by(bytes.len() / 64 + 1) {
        let part = decode_response(&bytes[..split]);
        assert!(part == Decoded::Incomplete || part == whole, "{split}: {part:?}, and then {whole:?}");
    }
    if let Decoded::Head(head) = &whole {
        let (told, body) = bytes.split_at(head.consumed);
        assert!(told.ends_with(b"\r\n\r\n"), "the head ends elsewhere: {head:?}");
        let _ = decode_failure(head.status, body);
        let _ = serde_json::from_slice::<status::Status>(body);
    }
    let _ = decode_failure(500, bytes);
}

/// A request of the local API: its target on the first line, its headers on the others.
///
/// What is understood can be sent again and is then understood alike.
pub fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let target = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let find = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
    let _ = check_protocol(find(natssh_wire::request::PROTOCOL_HEADER));
    if let Some(value) = percent_decode(target) {
        assert_eq!(percent_decode(&percent_encode(&value)), Some(value));
    }
    let Ok(request) = ConnectRequest::parse(target, find) else { return };
    assert!(!request.timeout.is_zero() && request.timeout <= MAX_TIMEOUT);
    let sent =
        String::from_utf8(request.encode().expect("what was understood can be sent")).expect("is text");
    let (first, rest) =
        sent.strip_suffix("\r\n\r\n").and_then(|head| head.split_once("\r\n")).expect("a head");
    let again: Vec<_> = rest.split("\r\n").filter_map(|line| line.split_once(": ")).collect();
    let find = |name: &str| again.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    assert_eq!(ConnectRequest::parse(target.expect("a request"), find), Ok(request));
}

/// The words of a call of ssh, parted by NULs: what `ssh -G` is given of them means the same call, runs nothing
/// and writes to no file.
pub fn ssh_words(bytes: &[u8]) {
    let words: Vec<Word> = bytes.split(|byte| *byte == 0).map(|word| word.to_vec().into()).collect();
    let Ok(call) = Invocation::parse(&words) else { return };
    let options = call.option_words();
    let again = Invocation::parse(&options).expect("what was understood is understood again");
    assert_eq!(again.option_words(), options);
    assert_eq!(again.destination(), call.destination());
    assert_eq!(again.login(), call.login());
    assert_eq!(again.log_level(), call.log_level());
    assert!(again.command().is_none() && !again.is_subsystem() && again.log_file().is_none());
    for keyword in ["BatchMode", "ProxyCommand", "RequestTTY"] {
        assert_eq!(again.setting(keyword), call.setting(keyword));
    }
    if let Some(command) = call.command() {
        assert!(bytes.len() >= command.len(), "a command out of nothing: {command:?}");
    }
    let _ = call.demands_real_ssh();
}

/// The body of a call of ssh: what is understood is understood alike when it is sent again, and holds nothing that
/// no process can be given.
pub fn exec_request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<ExecRequest>(bytes) else { return };
    let sent = serde_json::to_vec(&request).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<ExecRequest>(&sent).expect("what was written can be read"), request);
    let pairs = request.environment.iter().flat_map(|(name, value)| [name, value]);
    for word in request.words.iter().chain([&request.directory]).chain(pairs) {
        assert!(!word.as_bytes().contains(&0), "{word:?} holds a NUL");
    }
    if let Ok(sent) = encode_exec(&request) {
        assert!(sent.len() <= EXEC_BODY_LIMIT + 1024);
    }
}

/// The body of a request for a file: what is understood is understood alike when it is sent again, and as the same
/// call of ssh.
pub fn file_request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<FileRequest>(bytes) else { return };
    assert_eq!(serde_json::from_slice::<ExecRequest>(bytes).as_ref().ok(), Some(&request.call));
    let sent = serde_json::to_vec(&request).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<FileRequest>(&sent).expect("what was written can be read"), request);
    assert!(request.mode.bits() <= 0o777 && !request.path.as_bytes().contains(&0), "{request:?}");
}

/// Frames of both sides: each is sent again as it came, and those of the broker say the same however they are cut.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, taken))) = FromClient::decode(rest) {
        let mut sent = Vec::new();
        frame.encode(&mut sent);
        assert_eq!(sent, rest[..taken], "{frame:?}");
        rest = &rest[taken..];
    }
    let (mut rest, mut outputs, mut others) = (bytes, [const { Vec::<u8>::new() }; 2], Vec::new());
    while let Ok(Some((frame, taken))) = FromBroker::decode(rest) {
        let mut sent = Vec::new();
        frame.encode(&mut sent);
        assert_eq!(sent, rest[..taken], "{frame:?}");
        match frame {
            FromBroker::Output(output, bytes) => outputs[usize::from(output == Output::Stderr)].extend(bytes),
            _ => others.extend(sent),
        }
        rest = &rest[taken..];
    }
    let understood = &bytes[..bytes.len() - rest.len()];
    let step = understood.len() / 64 + 1;
    for size in (1..=understood.len()).step_by(step) {
        let (mut pieces, mut heard, mut heard_others) =
            (Pieces::default(), [const { Vec::<u8>::new() }; 2], Vec::new());
        for mut read in understood.chunks(size) {
            while let Some(piece) = pieces.next(&mut read).expect("it was understood whole") {
                match piece {
                    Piece::Output(output, bytes) => {
                        heard[usize::from(output == Output::Stderr)].extend(bytes);
                    }
                    Piece::Frame(frame) => frame.encode(&mut heard_others),
                }
            }
        }
        assert_eq!((&heard, &heard_others), (&outputs, &others), "in reads of {size}");
    }
}

/// A known_hosts file in both dialects: each line means what it means alone, and is written as it is read.
pub fn known_hosts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for dialect in [Dialect::OpenSsh, Dialect::Tsh] {
        let whole = KnownHosts::parse(&text, "known_hosts", dialect);
        let alone: Vec<Line> = text
            .lines()
            .flat_map(|line| KnownHosts::parse(line, "known_hosts", dialect).lines().to_vec())
            .collect();
        let meaning = |line: &Line| (line.marker, line.hosts.clone(), line.key.clone());
        assert!(whole.lines().iter().map(meaning).eq(alone.iter().map(meaning)), "a line changes another");
        for line in whole.lines() {
            assert_eq!(HostNames::parse(&line.hosts.to_string()).as_ref(), Ok(&line.hosts));
            for (host, port) in [("web.example.com", 22), ("web.example.com", 2222), ("::1", 22)] {
                let found = whole.matching(host, port).any(|other| other == line);
                assert_eq!(found, line.hosts.matches(&lookup_name(host, port)));
            }
        }
    }
}

/// Text of a proxy or a node: it becomes one short line that cannot drive a terminal.
pub fn one_line_text(bytes: &[u8]) {
    let line = one_line(&String::from_utf8_lossy(bytes));
    is_one_line(&line);
    assert!(line.chars().count() <= 501, "{} characters", line.chars().count());
}

/// Panics for what does not fit on a line of a person's terminal.
pub(crate) fn is_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?} holds a control character");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    /// The folder `fuzz`, from where the tests run.
    fn folder() -> PathBuf {
        let here =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        PathBuf::from(here).join("../fuzz")
    }

    #[test]
    fn every_seed_is_read_as_promised() {
        let mut panics = Vec::new();
        for (name, read) in READERS {
            let mut count = 0;
            for entry in fs::read_dir(folder().join("corpus").join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                if std::panic::catch_unwind(|| read(&bytes)).is_err() {
                    panics.push(path);
                }
                count += 1;
            }
            assert!(count >= 3, "{name} has {count} seeds");
        }
        assert!(panics.is_empty(), "these break a promise: {panics:?}");
    }

    #[test]
    fn every_reader_has_a_target_and_every_target_a_reader() {
        let readers: BTreeSet<String> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let targets = fs::read_dir(folder().join("fuzz_targets")).unwrap();
        let targets: BTreeSet<String> = targets
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(targets, readers);
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        for name in readers {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
            let target =
                fs::read_to_string(folder().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
            assert!(target.contains(&format!("natssh_broker::fuzzing::{name}(")), "{name}: {target}");
        }
    }
}
