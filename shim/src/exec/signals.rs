//! The signals that end an ssh: noted, so that they end this program as they end that one. At a terminal, those that
//! tell of it too.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{RecvFlags, recv};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// A socket that becomes readable with a signal, and what came.
#[derive(Debug)]
pub(super) struct Signals {
    came: UnixStream,
    send: UnixStream,
    number: Arc<AtomicUsize>,
    continued: Arc<AtomicBool>,
}

impl Signals {
    /// Notes signals from now on; those that the caller has set to be ignored (nohup) stay so.
    pub(super) fn listen() -> std::io::Result<Self> {
        let (came, send) = UnixStream::pair()?;
        send.set_nonblocking(true)?;
        let number = Arc::new(AtomicUsize::new(0));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            if !is_ignored(&status, signal) {
                let value = usize::try_from(signal).unwrap_or_default();
                signal_hook::flag::register_usize(signal, number.clone(), value)?;
                signal_hook::low_level::pipe::register(signal, send.try_clone()?)?;
            }
        }
        Ok(Self { came, send, number, continued: Arc::default() })
    }

    /// Notes from now on too what happens to a terminal and to whoever is at it.
    pub(super) fn listen_to_terminal(&self) -> std::io::Result<()> {
        signal_hook::flag::register(SIGCONT, self.continued.clone())?;
        for signal in [SIGCONT, SIGWINCH] {
            signal_hook::low_level::pipe::register(signal, self.send.try_clone()?)?;
        }
        Ok(())
    }

    /// Waits for the next signal from now on. What came before is still to be asked for.
    pub(super) fn heard(&self) {
        // Nothing there is fine, and so is any error: then it is looked at once more.
        let _ = recv(&self.came, &mut [0; 64], RecvFlags::DONTWAIT);
    }

    /// Whether the program was stopped and continued since this was asked.
    pub(super) fn continued(&self) -> bool {
        self.continued.swap(false, SeqCst)
    }

    /// The signal that came, if one did.
    pub(super) fn came(&self) -> Option<usize> {
        Some(self.number.load(SeqCst)).filter(|number| *number > 0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}

/// Whether a process of this status (proc_pid_status(5)) ignores a signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_stays_ignored() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004000\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT) && !is_ignored(status, SIGTERM));
        assert!(!is_ignored("", SIGHUP));
    }
}
