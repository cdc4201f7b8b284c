//! Files over the broker's door, asked for as the Ansible plugin asks.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use natssh_wire::exec::ExecRequest;
use natssh_wire::file::{FileRequest, Mode};
use natssh_wire::frame::{FromBroker, FromClient};
use natssh_wire::{Failure, Word};

use crate::door::{head, knock};
use crate::world::World;

/// What is put in one frame.
const FRAME: usize = 128 << 10;

/// Files of one node.
#[derive(Debug)]
pub struct Files<'w> {
    world: &'w World,
    words: Vec<Word>,
}

/// A file on its way.
#[derive(Debug)]
pub struct Transfer {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl<'w> Files<'w> {
    /// Of the node that ssh would reach by this configuration and host.
    pub fn of(world: &'w World, config: PathBuf, host: &str) -> Self {
        Self { world, words: vec!["-F".into(), config.into_os_string().into(), host.into()] }
    }

    /// With further options.
    #[must_use]
    pub fn with(mut self, words: &[&str]) -> Self {
        self.words.splice(0..0, words.iter().map(|word| Word::from(*word)));
        self
    }

    /// Puts a file, which gets the mode 0644 if it is new.
    ///
    /// # Errors
    /// The broker's failure.
    pub fn put(&self, path: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), Failure> {
        let mut transfer = self.begin_put(path, Some(bytes.len() as u64))?;
        for part in bytes.chunks(FRAME) {
            transfer.send(part);
        }
        transfer.finish();
        transfer.end().map(drop)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The broker's failure.
    pub fn get(&self, path: impl AsRef<OsStr>) -> Result<Vec<u8>, Failure> {
        self.begin_get(path)?.end()
    }

    /// Asks to put a file, whose bytes are to follow.
    ///
    /// # Errors
    /// The broker's failure.
    pub fn begin_put(&self, path: impl AsRef<OsStr>, size: Option<u64>) -> Result<Transfer, Failure> {
        self.begin("PUT", path.as_ref(), size)
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// The broker's failure.
    pub fn begin_get(&self, path: impl AsRef<OsStr>) -> Result<Transfer, Failure> {
        self.begin("GET", path.as_ref(), None)
    }

    fn begin(&self, method: &str, path: &OsStr, size: Option<u64>) -> Result<Transfer, Failure> {
        let home = self.world.path().join("home").into_os_string();
        let call = ExecRequest {
            words: self.words.clone(),
            directory: home.clone().into(),
            environment: vec![("HOME".into(), home.into())],
            ..ExecRequest::default()
        };
        let path = Word::from(path.as_bytes().to_vec());
        let request = FileRequest { call, path, mode: Mode::new(0o644).expect("a mode"), size };
        let body = serde_json::to_vec(&request).expect("plain data");
        let mut stream = knock(&self.world.socket()).expect("a broker listens");
        let length = body.len();
        write!(
            stream,
            "{method} /v1/file HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: 1\r\nConnection: Upgrade\r\n\
             Upgrade: natssh-file\r\nContent-Length: {length}\r\n\r\n"
        )
        .and_then(|()| stream.write_all(&body))
        .expect("the broker reads");
        let (status, head) = head(&mut stream).expect("a whole head");
        if status == 101 {
            return Ok(Transfer { stream, heard: Vec::new() });
        }
        Err(crate::door::failure(&mut stream, &head))
    }
}

impl Transfer {
    /// Sends bytes. The broker may have had enough of them: its last frame says why.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut frame = Vec::new();
        FromClient::Stdin(bytes).encode(&mut frame);
        drop(self.stream.write_all(&frame));
    }

    /// Says that all are sent.
    pub fn finish(&mut self) {
        let mut frame = Vec::new();
        FromClient::StdinEnd.encode(&mut frame);
        drop(self.stream.write_all(&frame));
    }

    /// Waits for some of the file to come.
    ///
    /// # Panics
    /// When the broker leaves.
    pub fn until_some_came(&mut self) {
        let mut some = [0; 4096];
        let count = self.stream.read(&mut some).expect("the broker answers");
        assert!(count > 0, "the broker has left");
        self.heard.extend_from_slice(&some[..count]);
    }

    /// What came, up to the last frame.
    ///
    /// # Errors
    /// The failure that is in it.
    ///
    /// # Panics
    /// When there is none, or an answer that no file has.
    pub fn end(mut self) -> Result<Vec<u8>, Failure> {
        let mut file = Vec::new();
        loop {
            let mut used = 0;
            while let Some((frame, taken)) = FromBroker::decode(&self.heard[used..]).expect("frames") {
                used += taken;
                match frame {
                    FromBroker::Output(_, bytes) => file.extend_from_slice(bytes),
                    FromBroker::Debug(..) => {}
                    FromBroker::Exit(0) => return Ok(file),
                    FromBroker::Failed(json) => {
                        return Err(serde_json::from_slice(json).expect("a failure as JSON"));
                    }
                    other => panic!("no frame of a file's: {other:?}"),
                }
            }
            self.heard.drain(..used);
            let mut more = vec![0; 1 << 20];
            let count = match self.stream.read(&mut more) {
                // A child's end interrupts a read that has a limit (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count.expect("the broker answers"),
            };
            assert!(count > 0, "the broker left without a last frame");
            self.heard.extend_from_slice(&more[..count]);
        }
    }
}
