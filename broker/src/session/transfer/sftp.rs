//! The client's side of SFTP on a channel that was asked for the subsystem.
//!
//! Requests are gathered and leave together; answers are taken in the order in which they are wanted. The channel keeps
//! what the server says meanwhile, so that a write may wait for the node without a reader beside it.

use super::packet::{
    self, Answer, Attributes, Extensions, Nonsense, PACKET_LIMIT, Request, Status, code, decode_answer,
    decode_version,
};
use super::talk::Talk;
use super::{Lacking, Remote, STALLED, Stopped};
use crate::session::Event;
use crate::text::one_line;
use bytes::Bytes;
use natssh_wire::frame::Output;
use tokio::time::timeout;

/// What is gathered before it is sent.
const FULL: usize = 256 << 10;
/// What is kept of the server's standard error.
const COMPLAINT: usize = 1 << 10;
/// As the shell says that there is no such program, or that it cannot be run.
const NO_PROGRAM: [u32; 2] = [126, 127];

/// A conversation with the SFTP server of a node.
pub(super) struct Sftp<'r, R: Remote> {
    remote: &'r R,
    talk: &'r mut Talk,
}

/// The number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked(u32);

impl<'r, R: Remote> Sftp<'r, R> {
    /// Goes on with a conversation, or begins it.
    pub(super) fn new(remote: &'r R, talk: &'r mut Talk) -> Self {
        Self { remote, talk }
    }

    /// Adds a request to those that leave together.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Asked {
        self.talk.last_id = self.talk.last_id.wrapping_add(1);
        self.talk.open += 1;
        request.encode(self.talk.last_id, &mut self.talk.to_send);
        Asked(self.talk.last_id)
    }

    /// Nobody will take the answer to that.
    pub(super) fn forget(&mut self, asked: Asked) {
        self.talk.open = self.talk.open.saturating_sub(1);
        if self.talk.kept.remove(&asked.0).is_none() {
            self.talk.unwanted.insert(asked.0);
        }
    }

    /// Requests whose answers nobody has taken yet.
    pub(super) fn open(&self) -> usize {
        self.talk.open
    }

    /// Whether it is time to send what was gathered.
    pub(super) fn is_full(&self) -> bool {
        self.talk.to_send.len() >= FULL
    }

    /// Sends what was gathered; waits while the node takes none. Whoever stops waiting has lost the conversation.
    pub(super) async fn send(&mut self) -> Result<(), Stopped> {
        while !self.talk.started {
            self.happens().await?;
        }
        let mut gathered = self.talk.to_send.split().freeze();
        while !gathered.is_empty() {
            // In parts, so that a slow path is not taken for one that stands still.
            let part = gathered.split_to(gathered.len().min(super::put::WRITE));
            match timeout(STALLED, self.remote.write(part)).await {
                // Why it ended is said by what happens next.
                Ok(Ok(()) | Err(_)) => {}
                Err(_) => return Err(Stopped::Stalled),
            }
        }
        Ok(())
    }

    /// What the server can do; it says so first.
    pub(super) async fn greeting(&mut self) -> Result<Extensions, Stopped> {
        if let Some(extensions) = self.talk.extensions {
            return Ok(extensions);
        }
        let packet = self.packet().await?;
        let extensions = decode_version(packet).map_err(|_| self.nonsense())?;
        self.talk.extensions = Some(extensions);
        Ok(extensions)
    }

    /// The answer to one request.
    pub(super) async fn answer_to(&mut self, asked: Asked) -> Result<Answer, Stopped> {
        loop {
            if let Some(answer) = self.talk.kept.remove(&asked.0) {
                self.talk.open = self.talk.open.saturating_sub(1);
                return Ok(answer);
            }
            let (id, answer) = self.next().await?;
            self.talk.kept.insert(id, answer);
        }
    }

    /// The next answer that comes, or the end. Nothing is lost when the caller stops waiting.
    pub(super) async fn any_answer(&mut self) -> Result<Answer, Stopped> {
        let kept = self.talk.kept.keys().next().copied().and_then(|id| self.talk.kept.remove(&id));
        let answer = match kept {
            Some(answer) => answer,
            None => self.next().await?.1,
        };
        self.talk.open = self.talk.open.saturating_sub(1);
        Ok(answer)
    }

    async fn next(&mut self) -> Result<(u32, Answer), Stopped> {
        self.greeting().await?;
        loop {
            let packet = self.packet().await?;
            let (id, answer) = decode_answer(packet).map_err(|_| self.nonsense())?;
            if !self.talk.unwanted.remove(&id) {
                return Ok((id, answer));
            }
        }
    }

    async fn packet(&mut self) -> Result<Bytes, Stopped> {
        loop {
            match packet::take(&mut self.talk.heard) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => {}
                Err(Nonsense) => return Err(self.nonsense()),
            }
            self.happens().await?;
        }
    }

    /// Waits for what happens next; for as long as it takes, where the server owes nothing.
    async fn happens(&mut self) -> Result<(), Stopped> {
        let next = self.remote.next();
        let event = match self.talk.open {
            0 => next.await,
            _ => timeout(STALLED, next).await.map_err(|_| Stopped::Stalled)?,
        };
        match event {
            Event::Started => self.talk.started = true,
            // Neither is asked for.
            Event::NoTerminal | Event::OutputEnd => {}
            Event::Output(Output::Stdout, bytes) => self.talk.heard.extend_from_slice(&bytes),
            Event::Output(Output::Stderr, bytes) => {
                let room = COMPLAINT.saturating_sub(self.talk.complaint.len());
                self.talk.complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Event::Refused => return Err(Stopped::NoSftp(Lacking::Surely)),
            Event::Exit(status) => return Err(self.ended(status)),
            Event::Killed(signal) => {
                return Err(Stopped::Cut(format!("its SFTP server was ended by SIG{signal}")));
            }
            Event::Closed => return Err(Stopped::Cut("it closed the channel".into())),
            Event::Cut(reason) => return Err(Stopped::Cut(reason.to_string())),
        }
        Ok(())
    }

    fn ended(&self, status: u32) -> Stopped {
        let lacking = if NO_PROGRAM.contains(&status) { Lacking::Surely } else { Lacking::ForNow };
        match self.talk.extensions {
            None if self.talk.heard.is_empty() => Stopped::NoSftp(lacking),
            None => self.nonsense(),
            Some(_) => {
                let complaint = one_line(String::from_utf8_lossy(&self.talk.complaint).trim());
                let colon = if complaint.is_empty() { "" } else { ": " };
                Stopped::Cut(format!("its SFTP server ended with status {status}{colon}{complaint}"))
            }
        }
    }

    /// What came instead of a packet: mostly what a start-up file of the login's shell prints.
    fn nonsense(&self) -> Stopped {
        let heard = &self.talk.heard[..self.talk.heard.len().min(COMPLAINT)];
        Stopped::NotSftp(one_line(String::from_utf8_lossy(heard).trim()))
    }
}

/// What a status says, in the words that OpenSSH's sftp has for it (`fx2txt` in sftp-common.c) or the server's own.
pub(super) fn words(status: &Status) -> String {
    match status.code {
        code::NO_SUCH_FILE => "No such file or directory".into(),
        code::PERMISSION_DENIED => "Permission denied".into(),
        other => {
            let own = one_line(String::from_utf8_lossy(&status.words).trim());
            match (own.is_empty(), other) {
                (false, _) => own,
                (true, code::BAD_MESSAGE) => "Bad message".into(),
                (true, code::UNSUPPORTED) => "Operation unsupported".into(),
                (true, _) => "Failure".into(),
            }
        }
    }
}

/// Answers as what they have to be; an error is the status that came instead.
impl Answer {
    pub(super) fn done(self) -> Result<(), Status> {
        match self {
            Self::Status(status) if status.code == code::OK => Ok(()),
            other => Err(other.status()),
        }
    }

    pub(super) fn handle(self) -> Result<Bytes, Status> {
        match self {
            Self::Handle(handle) => Ok(handle),
            other => Err(other.status()),
        }
    }

    pub(super) fn attributes(self) -> Result<Attributes, Status> {
        match self {
            Self::Attributes(attributes) => Ok(attributes),
            other => Err(other.status()),
        }
    }

    pub(super) fn name(self) -> Result<Bytes, Status> {
        match self {
            Self::Name(name) => Ok(name),
            other => Err(other.status()),
        }
    }

    pub(super) fn data(self) -> Result<Bytes, Status> {
        match self {
            Self::Data(data) => Ok(data),
            other => Err(other.status()),
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Status(status) if status.code != code::OK => status,
            _ => {
                Status { code: code::BAD_MESSAGE, words: Bytes::from_static(b"an answer to something else") }
            }
        }
    }
}

/// So long a packet fits through every server: what a request adds to it included.
const _: () = assert!(super::put::WRITE + 1024 < PACKET_LIMIT);
