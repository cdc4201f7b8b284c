//! How far a conversation in SFTP has come. No I/O.
//!
//! The server is started and greeted once, and then asked about one file after the other: a conversation that is through
//! with one can wait for the next, without anybody who has it.

use super::packet::{self, Answer, Extensions};
use bytes::BytesMut;
use std::collections::{HashMap, HashSet};

/// A conversation with the SFTP server of a node, between two sentences.
#[derive(Debug)]
pub struct Talk {
    /// The server runs. Before, OpenSSH opens no window: a write would wait, also for one that is refused.
    pub(super) started: bool,
    pub(super) to_send: BytesMut,
    pub(super) heard: BytesMut,
    pub(super) last_id: u32,
    /// Requests whose answers somebody will take.
    pub(super) open: usize,
    /// Answers that nobody has asked for yet.
    pub(super) kept: HashMap<u32, Answer>,
    /// Requests whose answers nobody will take.
    pub(super) unwanted: HashSet<u32>,
    pub(super) complaint: Vec<u8>,
    pub(super) extensions: Option<Extensions>,
}

impl Default for Talk {
    /// The server is greeted as soon as something is asked of it.
    fn default() -> Self {
        let mut to_send = BytesMut::new();
        packet::encode_init(&mut to_send);
        Self {
            started: false,
            to_send,
            heard: BytesMut::new(),
            last_id: 0,
            open: 0,
            kept: HashMap::new(),
            unwanted: HashSet::new(),
            complaint: Vec::new(),
            extensions: None,
        }
    }
}

impl Talk {
    /// Whether the server has not answered yet: it is to be started.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.extensions.is_none()
    }

    /// The conversation as it waits for the next file, with no memory for more than that; none where something is left
    /// to be said about the last one.
    #[must_use]
    pub fn rest(self) -> Option<Self> {
        let Self { last_id, unwanted, extensions, heard, .. } = self;
        let over = extensions.is_some() && self.open == 0 && self.to_send.is_empty();
        let (to_send, kept, complaint) = Default::default();
        // Of an answer that nobody wants, some may be here already.
        let heard = BytesMut::from(&heard[..]);
        over.then_some(Self {
            started: true,
            to_send,
            heard,
            last_id,
            open: 0,
            kept,
            unwanted,
            complaint,
            extensions,
        })
    }
}
