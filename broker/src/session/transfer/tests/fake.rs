//! An SFTP server in memory, with the habits of servers that are not OpenSSH's newest.

use crate::session::transfer::Remote;
use crate::session::{Event, Gone};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use natssh_wire::frame::Output;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// What a server does otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// It knows `posix-rename@openssh.com`.
    pub(super) replaces: bool,
    /// It gives so much for one request at most.
    pub(super) reads: usize,
    /// It lets nobody give files away.
    pub(super) owns: bool,
    /// Its disk takes so many bytes.
    pub(super) room: usize,
    /// It says nothing more after so many requests.
    pub(super) answers: usize,
    /// Of two answers that are ready it gives the later one first.
    pub(super) turns: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { replaces: true, reads: 1 << 20, owns: true, room: 1 << 30, answers: usize::MAX, turns: false }
    }
}

/// A file, its permissions, its user and group.
pub(super) type File = (Vec<u8>, u32, (u32, u32));

/// The server.
pub(super) struct Server {
    habits: Habits,
    state: Mutex<State>,
    happened: Notify,
}

#[derive(Default)]
struct State {
    heard: BytesMut,
    events: VecDeque<Event>,
    files: HashMap<Vec<u8>, File>,
    /// Files without a name, by their handles.
    open: HashMap<Vec<u8>, Vec<u8>>,
    requests: usize,
}

impl Server {
    pub(super) fn new(habits: Habits) -> Self {
        let server = Self { habits, state: Mutex::default(), happened: Notify::new() };
        server.happen(Event::Started);
        server
    }

    /// With a file.
    pub(super) fn with(self, path: &str, file: File) -> Self {
        self.lock().files.insert(path.into(), file);
        self
    }

    /// A file by its name.
    pub(super) fn file(&self, path: &str) -> Option<File> {
        self.lock().files.get(path.as_bytes()).cloned()
    }

    /// How many files there are.
    pub(super) fn files(&self) -> usize {
        self.lock().files.len()
    }

    fn happen(&self, event: Event) {
        self.lock().events.push_back(event);
        self.happened.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers every request that is all there.
    fn serve(&self) {
        let mut state = self.lock();
        // The greeting comes first, whatever the habit.
        let first = usize::from(state.requests == 0);
        let mut answers = Vec::new();
        while state.heard.len() >= 4 {
            let length = (&state.heard[..4]).get_u32() as usize;
            if state.heard.len() < 4 + length {
                break;
            }
            state.heard.advance(4);
            let packet = state.heard.split_to(length).freeze();
            state.requests += 1;
            if state.requests <= self.habits.answers {
                let answer = state.answer(packet, self.habits);
                let mut framed = BytesMut::new();
                framed.put_u32(u32::try_from(answer.len()).unwrap());
                framed.put_slice(&answer);
                answers.push(framed.freeze());
            }
        }
        if self.habits.turns && answers.len() > first {
            answers[first..].reverse();
        }
        let output = |bytes| Event::Output(Output::Stdout, bytes);
        state.events.extend(answers.into_iter().map(output));
        drop(state);
        self.happened.notify_one();
    }
}

impl State {
    fn answer(&mut self, mut packet: Bytes, habits: Habits) -> BytesMut {
        let kind = packet.get_u8();
        let id = packet.get_u32();
        let mut answer = BytesMut::new();
        if kind == 1 {
            answer.put_u8(2);
            answer.put_u32(3);
            if habits.replaces {
                for text in [b"posix-rename@openssh.com".as_slice(), b"1"] {
                    answer.put_u32(u32::try_from(text.len()).unwrap());
                    answer.put_slice(text);
                }
            }
            return answer;
        }
        let name = string(&mut packet);
        let status = |code: u32| {
            let mut answer = BytesMut::new();
            answer.put_u8(101);
            answer.put_u32(id);
            answer.put_u32(code);
            answer.put_u32(0);
            answer.put_u32(0);
            answer
        };
        let with = |kind: u8, bytes: &[u8]| {
            let mut answer = BytesMut::new();
            answer.put_u8(kind);
            answer.put_u32(id);
            answer.put_u32(u32::try_from(bytes.len()).unwrap());
            answer.put_slice(bytes);
            answer
        };
        match kind {
            3 => {
                let (flags, _, mode) = (packet.get_u32(), packet.get_u32(), packet.get_u32());
                let (creates, truncates, exclusive) = (flags & 8 != 0, flags & 16 != 0, flags & 32 != 0);
                let exists = self.files.contains_key(&name);
                if (exclusive && exists) || (!creates && !exists) {
                    return status(if exists { 4 } else { 2 });
                }
                let file = self.files.entry(name.clone()).or_insert((Vec::new(), mode & !0o022, (0, 0)));
                if truncates {
                    file.0.clear();
                }
                let handle = format!("h{}", self.requests).into_bytes();
                self.open.insert(handle.clone(), name);
                with(102, &handle)
            }
            4 => status(if self.open.remove(&name).is_some() { 0 } else { 4 }),
            5 => {
                let (offset, length) =
                    (usize::try_from(packet.get_u64()).unwrap(), packet.get_u32() as usize);
                let file = &self.files[&self.open[&name]].0;
                match file.get(offset..) {
                    None | Some([]) => status(1),
                    Some(rest) => with(103, &rest[..rest.len().min(length).min(habits.reads)]),
                }
            }
            6 => {
                let offset = usize::try_from(packet.get_u64()).unwrap();
                let bytes = string(&mut packet);
                let Some(file) = self.open.get(&name).and_then(|name| self.files.get_mut(name)) else {
                    return status(4);
                };
                if offset + bytes.len() > habits.room {
                    return status(4);
                }
                file.0.resize(file.0.len().max(offset + bytes.len()), 0);
                file.0[offset..offset + bytes.len()].copy_from_slice(&bytes);
                status(0)
            }
            7 | 17 => {
                let Some((bytes, mode, owner)) = self.files.get(&name) else { return status(2) };
                let mut answer = BytesMut::new();
                answer.put_u8(105);
                answer.put_u32(id);
                answer.put_u32(7);
                answer.put_u64(bytes.len() as u64);
                answer.put_u32(owner.0);
                answer.put_u32(owner.1);
                answer.put_u32(0o100_000 | mode);
                answer
            }
            10 => {
                let flags = packet.get_u32();
                if flags == 2 && !habits.owns {
                    return status(3);
                }
                let file = self.files.get_mut(&self.open[&name]).unwrap();
                match flags {
                    2 => file.2 = (packet.get_u32(), packet.get_u32()),
                    _ => file.1 = packet.get_u32(),
                }
                status(0)
            }
            13 => status(if self.files.remove(&name).is_some() { 0 } else { 2 }),
            18 => {
                let to = string(&mut packet);
                if self.files.contains_key(&to) {
                    return status(4);
                }
                let file = self.files.remove(&name).unwrap();
                self.files.insert(to, file);
                status(0)
            }
            200 => {
                assert_eq!(name, b"posix-rename@openssh.com");
                let (from, to) = (string(&mut packet), string(&mut packet));
                let file = self.files.remove(&from).unwrap();
                self.files.insert(to, file);
                status(0)
            }
            other => panic!("a request of kind {other}"),
        }
    }
}

fn string(from: &mut Bytes) -> Vec<u8> {
    let length = from.get_u32() as usize;
    from.split_to(length).to_vec()
}

impl Remote for Server {
    async fn next(&self) -> Event {
        loop {
            let happened = self.happened.notified();
            if let Some(event) = self.lock().events.pop_front() {
                return event;
            }
            happened.await;
        }
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.lock().heard.extend_from_slice(&bytes);
        self.serve();
        Ok(())
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        Ok(())
    }
}
