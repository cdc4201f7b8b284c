//! Running a program to its end, within a limit, with all it said.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, until, within};

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Said {
    /// Its stdout, when it ended well.
    ///
    /// # Panics
    /// When it did not, with all that is known.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(self.code, Some(0), "{} after {:?}", self.stderr, self.took);
        self.text()
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr, when it ended as ssh does that could not reach its node.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn unreachable(&self) -> &str {
        assert_eq!(self.code, Some(255), "{}{}", self.text(), self.stderr);
        &self.stderr
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started, or has not ended within [`PATIENCE`].
#[track_caller]
pub fn run(command: Command) -> Said {
    Running::start(command).end()
}

/// A program at work. When it is dropped it is killed.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Heard,
    stderr: Heard,
    since: Instant,
}

impl Running {
    /// Starts it with its stdin at end of file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    /// Starts it with a stdin to [`Running::write`] to.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn interactive(command: Command) -> Self {
        Self::spawn(command, Stdio::piped())
    }

    #[track_caller]
    fn spawn(mut command: Command, stdin: Stdio) -> Self {
        let what = format!("{command:?}");
        let since = Instant::now();
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        let stdout = Heard::of(child.stdout.take());
        let stderr = Heard::of(child.stderr.take());
        Self { what, stdin: child.stdin.take(), child, stdout, stderr, since }
    }

    /// Its process number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Writes to its stdin.
    ///
    /// # Panics
    /// When it takes no more.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it was started with a stdin");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads its stdin");
    }

    /// Waits until its stdout holds `words`.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    #[track_caller]
    pub fn until_said(&self, words: &str) {
        until(&format!("{words:?} from {}", self.what), || {
            String::from_utf8_lossy(&self.stdout.so_far()).contains(words).then_some(())
        });
    }

    /// Its stdout so far, as text.
    pub fn text_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.so_far()).into_owned()
    }

    /// Bytes of stdout so far.
    pub fn bytes_said(&self) -> usize {
        self.stdout.so_far().len()
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.what));
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system has lost it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for its end, which comes by itself: its stdin stays open.
    ///
    /// # Panics
    /// When that does not come within [`PATIENCE`].
    #[track_caller]
    pub fn stay(mut self) -> Said {
        let stdin = self.stdin.take();
        let said = self.end();
        drop(stdin);
        said
    }

    /// Ends its stdin and waits for its end.
    ///
    /// # Panics
    /// When that does not come within [`PATIENCE`].
    #[track_caller]
    pub fn end(self) -> Said {
        self.end_within(PATIENCE)
    }

    /// Ends its stdin and waits for its end.
    ///
    /// # Panics
    /// When that does not come within `limit`.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Said {
        self.stdin = None;
        let ended = within(limit, || self.child.try_wait().expect("a child can be waited for"));
        let took = self.since.elapsed();
        if ended.is_none() {
            let _ = self.child.kill();
        }
        let (stdout, stderr) = (self.stdout.all(), String::from_utf8_lossy(&self.stderr.all()).into_owned());
        let Some(status) = ended else {
            panic!("{} has not ended after {limit:?}; stderr: {stderr}", self.what)
        };
        Said { code: status.code(), stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe.
#[derive(Debug)]
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let heard = bytes.clone();
        let read = |mut pipe: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut chunk = [0; 16 << 10];
                // What came before an error is what there is.
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
                }
            })
        };
        let reader = pipe.map(|pipe| read(Box::new(pipe)));
        Self { bytes, reader }
    }

    fn so_far(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, once the last writer has closed the pipe.
    fn all(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        std::mem::take(&mut self.so_far())
    }
}
