//! The caller's terminal while a command of a node is at it: raw, and listened to for escapes.

use super::escape::{Asked, Escapes};
use super::raw::Raw;
use super::terminal::size;
use natssh_wire::terminal::{Granted, Size};

/// What is typed, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Keyboard {
    /// None where standard input is no terminal (`-tt`), or the node gives none.
    raw: Option<Raw>,
    escapes: Option<Escapes>,
    /// The size that the node knows.
    told: Size,
}

/// What keys come to.
#[derive(Debug)]
pub(super) struct Typed {
    /// For the node.
    pub(super) input: Vec<u8>,
    /// For the caller's eyes.
    pub(super) answer: Vec<u8>,
    /// What is left to do, in this order.
    pub(super) asked: Vec<Asked>,
}

impl Keyboard {
    /// The terminal is raw from now on; the node was told of that size.
    pub(super) fn take(granted: Granted, told: Size) -> Self {
        Self { raw: Raw::enter(), escapes: granted.escape.map(Escapes::by), told }
    }

    /// The node gives no terminal: this one is as it was before. Escapes stay, as with ssh.
    pub(super) fn leave(&mut self) {
        self.raw = None;
    }

    /// Takes keys as they come.
    pub(super) fn hear(&mut self, keys: &[u8]) -> Typed {
        let Some(escapes) = &mut self.escapes else {
            return Typed { input: keys.to_vec(), answer: Vec::new(), asked: Vec::new() };
        };
        let (input, asked) = escapes.hear(keys);
        let answer = asked.iter().flat_map(|asked| escapes.answer(*asked)).collect();
        Typed { input, answer, asked }
    }

    /// Stops this program until somebody continues it.
    pub(super) fn suspend(&mut self) {
        self.raw.iter_mut().for_each(Raw::suspend);
    }

    /// Somebody has stopped this program and continued it.
    pub(super) fn continued(&self) {
        self.raw.iter().for_each(Raw::again);
    }

    /// The size that the terminal has and the node does not know of.
    pub(super) fn news(&mut self) -> Option<Size> {
        let size = size().filter(|size| *size != self.told)?;
        self.told = size;
        Some(size)
    }
}
