//! Frames between the broker and the caller's standard streams, until the command has ended.
//!
//! One loop waits for all of them. An output that nobody reads is held, up to
//! what ssh's own window would hold, so that the other output and the input go
//! on; only then is the broker no longer read.

use super::end::{End, cut, last, not_understood};
use super::escape::Asked;
use super::keyboard::{Keyboard, Typed};
use super::outbox::Outbox;
use super::signals::Signals;
use super::stdio::{Input, Sink};
use crate::voice::Voice;
use natssh_wire::frame::pieces::{Piece, Pieces};
use natssh_wire::frame::{FromBroker, FromClient, Output};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::time::{Duration, Instant};

/// What is read at once: about what a unix socket holds.
const READ: usize = 128 << 10;
/// What is held of both outputs for a reader that is merely slower.
const SLOW: usize = 256 << 10;
/// And for one that has stopped: the window that ssh grants a server, so that the other output goes on as with ssh.
const STOPPED: usize = 2 << 20;
/// Keys that may wait for the broker, in bytes.
const TYPED_AHEAD: usize = 64 << 10;
/// A reader that takes nothing for so long has stopped.
const PAUSE: Duration = Duration::from_millis(100);
/// A broker that still sends such an output has not read so: the command does not read its input, which is before
/// that in the socket. It is left then; ssh would have its output end it.
const STUCK: Duration = Duration::from_secs(1);

/// Who is ready.
#[derive(Debug, Clone, Copy)]
enum Who {
    Signals,
    Broker,
    Input,
    Stdout,
    Stderr,
}

/// Everything between the broker and the caller.
#[derive(Debug)]
pub(super) struct Pump<'v> {
    socket: OwnedFd,
    signals: Signals,
    voice: &'v Voice,
    input: Option<Input>,
    keyboard: Option<Keyboard>,
    stdout: Sink,
    stderr: Sink,
    outbox: Outbox,
    /// When the broker was told of stdout, and of stderr, that nobody reads it.
    told_closed: [Option<Instant>; 2],
    pieces: Pieces,
    buffer: Vec<u8>,
    end: Option<End>,
}

impl<'v> Pump<'v> {
    /// Bytes go over `socket`, which must not block; without `input` the command's is at its end, and with a
    /// `keyboard` it is typed.
    pub(super) fn new(
        socket: OwnedFd,
        signals: Signals,
        input: Option<Input>,
        keyboard: Option<Keyboard>,
        voice: &'v Voice,
    ) -> Self {
        let mut pump = Self {
            socket,
            signals,
            voice,
            stdout: Sink::of(rustix::stdio::stdout()),
            stderr: Sink::of(rustix::stdio::stderr()),
            outbox: Outbox::default(),
            told_closed: [None; 2],
            pieces: Pieces::default(),
            buffer: vec![0; READ],
            end: None,
            input,
            keyboard,
        };
        if pump.input.is_none() {
            pump.outbox.add(&FromClient::StdinEnd);
        }
        pump
    }

    /// Carries bytes until the command's end is known and all it said is out.
    pub(super) fn run(mut self) -> End {
        // It may have changed while the node was dialled.
        self.tell_size();
        self.send();
        loop {
            // Who gives up does not wait for those who read.
            if (self.held() == 0 || matches!(self.end, Some(End::GivenUp)))
                && let Some(end) = self.end.take()
            {
                return end;
            }
            match self.wait() {
                Ok(ready) => ready.into_iter().for_each(|who| self.act(who)),
                Err(Errno::INTR) => {}
                Err(error) => return End::Failed(cut(&format!("natssh could not wait ({error})"))),
            }
            if let Some(signal) = self.signals.came() {
                return End::Signalled(signal);
            }
        }
    }

    /// Waits until something can be done, and says about what.
    fn wait(&self) -> Result<Vec<Who>, Errno> {
        let goes_on = self.end.is_none();
        let mut wanted = vec![(Who::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        let mut socket = PollFlags::empty();
        let has_room = self.has_room();
        socket.set(PollFlags::IN, goes_on && has_room);
        socket.set(PollFlags::OUT, !self.outbox.is_empty());
        if !socket.is_empty() {
            wanted.push((Who::Broker, PollFd::new(&self.socket, socket)));
        }
        if let Some(input) = self.input.as_ref().filter(|_| goes_on && self.takes_input()) {
            wanted.push((Who::Input, PollFd::new(input, PollFlags::IN)));
        }
        for (who, sink) in [(Who::Stdout, &self.stdout), (Who::Stderr, &self.stderr)] {
            if sink.held() > 0 {
                wanted.push((who, PollFd::new(sink, PollFlags::OUT)));
            }
        }
        let (who, mut fds): (Vec<Who>, Vec<PollFd<'_>>) = wanted.into_iter().unzip();
        // Room may come with time alone.
        let look_again = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
        let waits_for_room = goes_on && !has_room && self.held() < STOPPED;
        poll(&mut fds, waits_for_room.then_some(&look_again))?;
        let ready = who.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(who, _)| who).collect())
    }

    fn act(&mut self, who: Who) {
        match who {
            Who::Signals => self.look_at_terminal(),
            Who::Broker => {
                self.send();
                if self.end.is_none() && self.has_room() {
                    self.receive();
                }
            }
            Who::Input => self.read_input(),
            Who::Stdout | Who::Stderr => {
                self.stdout.flush();
                self.stderr.flush();
            }
        }
        self.tell_closed();
    }

    /// Whether more input may be read. Keys are, for longer than the broker takes them: `~.` is meant for when nobody does.
    fn takes_input(&self) -> bool {
        let limit = if self.keyboard.is_some() { TYPED_AHEAD } else { 0 };
        self.outbox.len() <= limit
    }

    /// Bytes that the outputs have not taken.
    fn held(&self) -> usize {
        self.stdout.held() + self.stderr.held()
    }

    /// Whether more of the outputs may be read.
    fn has_room(&self) -> bool {
        let have_stopped = self.stdout.stuck().max(self.stderr.stuck()) >= PAUSE;
        self.held() < if have_stopped { STOPPED } else { SLOW }
    }

    /// Sends what the broker takes.
    fn send(&mut self) {
        if self.outbox.send(&self.socket).is_err() {
            // The command has ended, and the last frame is on its way.
            self.input = None;
        }
    }

    /// One read of standard input becomes one frame.
    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        if let Some(keyboard) = &mut self.keyboard {
            match input.read(&mut self.buffer) {
                Ok(count @ 1..) => {
                    let typed = keyboard.hear(&self.buffer[..count]);
                    self.typed(&typed);
                }
                Err(Errno::INTR | Errno::AGAIN) => return,
                Ok(_) | Err(_) => self.end_input(),
            }
            return self.send();
        }
        match self.outbox.fill(|into| input.read(into)) {
            Ok(1..) => {}
            Err(Errno::INTR | Errno::AGAIN) => return,
            Ok(_) | Err(_) => self.end_input(),
        }
        self.send();
    }

    fn end_input(&mut self) {
        self.input = None;
        self.outbox.add(&FromClient::StdinEnd);
    }

    /// What was typed goes to the node, and what was asked is done.
    fn typed(&mut self, typed: &Typed) {
        if !typed.input.is_empty() {
            self.outbox.add(&FromClient::Stdin(&typed.input));
        }
        self.stderr.put(&typed.answer);
        for asked in &typed.asked {
            match asked {
                Asked::GiveUp => self.end = Some(End::GivenUp),
                Asked::Suspend => {
                    self.send();
                    self.keyboard.iter_mut().for_each(Keyboard::suspend);
                    self.tell_size();
                }
                Asked::Rekey => self.outbox.add(&FromClient::Rekey),
                Asked::List | Asked::Help | Asked::Nothing(_) => {}
            }
        }
    }

    /// A signal came: of the terminal, or by somebody who continues this program.
    fn look_at_terminal(&mut self) {
        self.signals.heard();
        if self.signals.continued() {
            self.keyboard.iter().for_each(Keyboard::continued);
        }
        self.tell_size();
    }

    /// Tells the node of the terminal's size, if that is news.
    fn tell_size(&mut self) {
        if let Some(size) = self.keyboard.as_mut().and_then(Keyboard::news) {
            self.outbox.add(&FromClient::Window(size));
        }
    }

    /// One read of the broker's frames, each to where it belongs.
    fn receive(&mut self) {
        let count = match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => {
                self.end = Some(End::Failed(cut("the broker went away")));
                return;
            }
            Ok((count, _)) => count,
            Err(Errno::INTR | Errno::AGAIN) => return,
            Err(error) => {
                self.end = Some(End::Failed(cut(&format!("reading from the broker failed: {error}"))));
                return;
            }
        };
        let mut bytes = &self.buffer[..count];
        while self.end.is_none() {
            match self.pieces.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Piece::Output(output, bytes))) => {
                    let (sink, told) = match output {
                        Output::Stdout => (&mut self.stdout, self.told_closed[0]),
                        Output::Stderr => (&mut self.stderr, self.told_closed[1]),
                    };
                    sink.put(bytes);
                    if told.is_some_and(|at| at.elapsed() >= STUCK) {
                        self.end = Some(End::Stuck);
                    }
                }
                Ok(Some(Piece::Frame(FromBroker::NoTerminal))) => {
                    self.voice.error("PTY allocation request failed on channel 0");
                    self.keyboard.iter_mut().for_each(Keyboard::leave);
                }
                Ok(Some(Piece::Frame(FromBroker::StdoutEnd))) => self.stdout.end(),
                Ok(Some(Piece::Frame(frame))) => self.end = last(&frame, self.voice),
                Err(bad) => self.end = Some(End::Failed(not_understood(&bad))),
            }
        }
    }

    /// Tells the broker, once, of an output that takes no more.
    fn tell_closed(&mut self) {
        let closed = [(Output::Stdout, self.stdout.is_closed()), (Output::Stderr, self.stderr.is_closed())];
        for ((output, is_closed), told) in closed.into_iter().zip(&mut self.told_closed) {
            if is_closed && told.is_none() {
                *told = Some(Instant::now());
                self.outbox.add(&FromClient::Closed(output));
            }
        }
        self.send();
    }
}
