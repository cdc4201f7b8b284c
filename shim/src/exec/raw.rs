//! Raw mode of the caller's terminal, and the way back.

use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::stdio::stdin;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp,
    tcsetattr,
};

/// Standard input in raw mode. It is as it was before once this is dropped, and before a panic is told of.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// None where standard input is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        set(&raw(before.clone()));
        let (then, tell) = (before.clone(), std::panic::take_hook());
        // A program that aborts on panic drops nothing.
        std::panic::set_hook(Box::new(move |info| {
            set(&then);
            tell(info);
        }));
        Some(Self { before })
    }

    /// Stops this program as `^Z` would. Whoever continues it finds the terminal as they left it.
    pub(super) fn suspend(&mut self) {
        set(&self.before);
        // Where nobody could continue it, the system does not stop it (kill(2), setpgid(2)).
        let _ = kill_process(getpid(), Signal::TSTP);
        if let Ok(now) = tcgetattr(stdin()) {
            self.before = now;
        }
        set(&raw(self.before.clone()));
    }

    /// Sets it again after somebody else has stopped and continued the program, and had the terminal meanwhile. In the
    /// background that is left for later: asking there would stop the program once more.
    pub(super) fn again(&self) {
        if !tcgetpgrp(stdin()).is_ok_and(|front| front != getpgrp()) {
            set(&raw(self.before.clone()));
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        set(&self.before);
    }
}

/// Once what was written is out, as ssh does it. A terminal that has hung up takes nothing any more.
fn set(termios: &Termios) {
    let _ = tcsetattr(stdin(), OptionalActions::Drain, termios);
}

/// `enter_raw_mode` in sshtty.c.
fn raw(mut termios: Termios) -> Termios {
    use {InputModes as I, LocalModes as L};
    termios.input_modes |= I::IGNPAR;
    termios.input_modes -= I::ISTRIP | I::INLCR | I::IGNCR | I::ICRNL | I::IXON | I::IXANY | I::IXOFF;
    #[cfg(target_os = "linux")]
    termios.input_modes.remove(I::IUCLC);
    termios.local_modes -= L::ISIG | L::ICANON | L::ECHO | L::ECHOE | L::ECHOK | L::ECHONL | L::IEXTEN;
    termios.output_modes -= OutputModes::OPOST;
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
    termios
}
