//! A fake broker: a listener in a thread that does what the test says with each connection.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The answer that opens a stream.
pub(crate) const CONNECTED: &[u8] = b"HTTP/1.1 200 Connected\r\nNatssh-Protocol: 1\r\n\r\n";
/// No test waits longer for a thing that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A listener, and the requests it has read.
pub(crate) struct FakeBroker {
    folder: tempfile::TempDir,
    requests: Receiver<String>,
}

impl FakeBroker {
    /// Serves each connection, its request read, in a thread of its own.
    pub(crate) fn serve(each: impl Fn(UnixStream) + Send + Sync + Clone + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("broker.sock")).unwrap();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender, each) = (stream.unwrap(), sender.clone(), each.clone());
                std::thread::spawn(move || {
                    if let Some(request) = read_request(&stream) {
                        let _ = sender.send(request);
                        each(stream);
                    }
                });
            }
        });
        Self { folder, requests }
    }

    /// Answers every request with these bytes and closes.
    pub(crate) fn answer(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::serve(move |mut stream| {
            let _ = stream.write_all(&bytes);
        })
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("broker.sock")
    }

    /// The next request that came.
    pub(crate) fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("no request came")
    }

    /// Whether no further request has come.
    pub(crate) fn had_no_more_requests(&self) -> bool {
        self.requests.try_recv().is_err()
    }

    /// `natssh` with these words, asking this broker.
    pub(crate) fn natssh(&self, words: &[&str]) -> Command {
        natssh(&self.socket(), words)
    }
}

/// `natssh` with these words, and an environment that knows one socket and nothing else.
pub(crate) fn natssh(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natssh"));
    command
        .args(words)
        .env_clear()
        .env("NATSSH_SOCKET", socket)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// A whole answer in JSON.
pub(crate) fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nNatssh-Protocol: 1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Reads a request up to its blank line; none if the peer left.
pub(crate) fn read_request(stream: &UnixStream) -> Option<String> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head)
}

/// The exit status, stdout and stderr of a command.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into(), String::from_utf8_lossy(&stderr).into())
}

/// Bytes without a short period, different for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed | 1;
    let mut left = length;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut chunk = Vec::with_capacity(64 * 1024);
        while chunk.len() < (64 * 1024).min(left) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.extend_from_slice(&state.to_le_bytes());
        }
        chunk.truncate(left.min(64 * 1024));
        left -= chunk.len();
        Some(chunk)
    })
}

/// Reads to the end and returns length and checksum (FNV-1a).
pub(crate) fn drain(mut from: impl Read) -> (usize, u64) {
    let (mut length, mut sum, mut buffer) = (0, SEED, vec![0; 64 * 1024]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return (length, sum),
            Ok(count) => {
                length += count;
                sum = checksum(sum, &buffer[..count]);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => panic!("read failed after {length} bytes: {e}"),
        }
    }
}

/// The checksum of nothing.
pub(crate) const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// The checksum of what `sum` stands for, followed by `bytes`.
pub(crate) fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
