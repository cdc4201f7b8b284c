//! A program at a terminal: what a person types, what they see, and the state that the terminal is left in.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::{Errno, read, write};
use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::tools::skip;
use crate::wait::{until, within};

/// Whether an sshd of this user's cannot give terminals, after having said so: it hands each to the group tty, which only
/// root may do where the system has not done it already.
///
/// # Panics
/// When that is so and `CI` is `true`.
#[must_use]
pub fn lacks_terminals() -> bool {
    let (_keys, line) = pair();
    let is_own = fstat(&line).is_ok_and(|stat| stat.st_gid == getegid().as_raw());
    is_own && !geteuid().is_root() && skip("an ordinary user's sshd has no terminals to give here")
}

/// A terminal, and a program that it is the controlling terminal of.
#[derive(Debug)]
pub struct Screen {
    keys: OwnedFd,
    line: Option<OwnedFd>,
    child: Child,
    what: String,
    before: State,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

/// What the terminal was sent, and when the last of it.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    at: Option<Instant>,
}

/// What is left of it.
#[derive(Debug)]
pub struct Shown {
    /// The exit status; none when a signal ended the program.
    pub code: Option<i32>,
    /// All that the terminal was sent.
    pub bytes: Vec<u8>,
    /// The terminal's state before the program was started.
    pub before: State,
    /// And when it had ended.
    pub after: State,
}

/// The state of a terminal, in words that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(String);

impl Screen {
    /// Starts a program at a terminal of its own, with 80 columns and 24 rows.
    ///
    /// # Panics
    /// When there is no terminal to be had, or no setsid(1).
    pub fn start(command: &Command) -> Self {
        Self::prepared(command, |_| {})
    }

    /// The same, where the terminal is made ready first.
    ///
    /// # Panics
    /// As [`Screen::start`].
    pub fn prepared(command: &Command, prepare: impl FnOnce(&OwnedFd)) -> Self {
        let (keys, line) = pair();
        resize(&keys, 80, 24);
        prepare(&line);
        let before = State::of(&line);
        let same = || Stdio::from(line.try_clone().expect("a descriptor"));
        // It makes the terminal the controlling one, which nothing here could without unsafe code.
        let mut child = Command::new("setsid");
        child.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        child.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.get_current_dir().map(|folder| child.current_dir(folder));
        let child = child.stdin(same()).stdout(same()).stderr(same()).spawn().expect("setsid(1) starts");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (to, from) = (seen.clone(), keys.try_clone().expect("a descriptor"));
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            loop {
                match read(&from, &mut chunk) {
                    Ok(count @ 1..) => {
                        let mut seen = to.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.bytes.extend(&chunk[..count]);
                        seen.at = Some(Instant::now());
                    }
                    Err(Errno::INTR) => {}
                    // The last program has closed its end.
                    Ok(_) | Err(_) => return,
                }
            }
        });
        let what = format!("{command:?}");
        Self { keys, line: Some(line), child, what, before, seen, reader: Some(reader) }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal takes no keys.
    pub fn types(&self, mut keys: &[u8]) {
        while !keys.is_empty() {
            keys = &keys[write(&self.keys, keys).expect("the terminal takes keys")..];
        }
    }

    /// All that was shown so far.
    pub fn so_far(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Types one key, and tells how long it took until something was shown for it.
    ///
    /// # Panics
    /// When nothing is.
    #[track_caller]
    pub fn echo(&self, key: u8) -> Duration {
        let before = self.seen().bytes.len();
        let typed = Instant::now();
        self.types(&[key]);
        until("a key's echo", || {
            let seen = self.seen();
            seen.at.filter(|_| seen.bytes.len() > before).map(|at| at - typed)
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `words` have been shown so many times.
    ///
    /// # Panics
    /// When they are not within [`PATIENCE`](crate::wait::PATIENCE).
    #[track_caller]
    pub fn until_shown(&self, words: &str, times: usize) {
        let found = || {
            let bytes = self.so_far();
            (String::from_utf8_lossy(&bytes).matches(words).count() >= times).then_some(())
        };
        let found = within(crate::wait::PATIENCE, found);
        let seen = || self.so_far().escape_ascii().to_string();
        assert!(found.is_some(), "{words:?} is not shown {times} times by {}: {}", self.what, seen());
    }

    /// Waits until a shell prompts, as it does for root or for anybody else.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn until_prompted(&self) {
        until("a prompt", || {
            let shown = self.so_far();
            (shown.ends_with(b"# ") || shown.ends_with(b"$ ")).then_some(())
        });
    }

    /// Waits until the terminal is raw, as it is while a program of a node has it, or is not.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn until_raw(&self, wanted: bool) {
        until(&format!("a raw terminal: {wanted}"), || (self.is_raw() == wanted).then_some(()));
    }

    /// Whether keys are handed on as they are.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn is_raw(&self) -> bool {
        !termios(self.line()).local_modes.contains(LocalModes::ICANON)
    }

    fn line(&self) -> &OwnedFd {
        self.line.as_ref().expect("it is there until the end")
    }

    /// Gives it another size; whoever is at it gets SIGWINCH.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keys, columns, rows);
    }

    /// The program's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.what));
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end(mut self) -> Shown {
        let ended =
            within(Duration::from_secs(60), || self.child.try_wait().expect("a child can be waited for"));
        let Some(status) = ended else {
            panic!("{} has not ended: {}", self.what, self.so_far().escape_ascii());
        };
        let after = State::of(self.line());
        self.line = None;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Shown { code: status.code(), bytes: self.so_far(), before: self.before.clone(), after }
    }
}

impl State {
    fn of(line: &OwnedFd) -> Self {
        Self(format!("{:?}", termios(line)))
    }
}

fn termios(line: &OwnedFd) -> Termios {
    tcgetattr(line).expect("the terminal is there")
}

impl Shown {
    /// What was shown, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where keys go in, and where a program is.
fn pair() -> (OwnedFd, OwnedFd) {
    let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&keys).and_then(|()| unlockpt(&keys)).expect("a terminal of our own");
    let name = ptsname(&keys, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let line = open(name, flags, Mode::empty()).expect("its other end");
    (keys, line)
}

fn resize(keys: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(keys, size).expect("the terminal is there");
}
