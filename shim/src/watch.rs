//! `natssh status --watch`: the screen of `natssh status`, again and again, until ^C.
//!
//! A terminal is overwritten in place, in one write, so that nothing flickers; what
//! does not fit is left out and counted. Anything else gets one screen after the
//! other. A broker that goes away is said, and waited for.

use crate::call::Missed;
use crate::place;
use crate::status::{ask, no_broker, read};
use crate::words::{clock, count, now, one_line};
use natssh_wire::{Failure, FailureKind};
use rustix::termios::{Winsize, isatty, tcgetwinsize};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What is being shown at ^C may be finished within this.
const GRACE: Duration = Duration::from_millis(300);
/// The top left corner.
const HOME: &str = "\x1b[H";
/// From here to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// From here to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows it until ^C, or until nobody reads any more: both are success.
pub(crate) fn run(json: bool, every: Duration) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    let interrupted = interrupts().map_err(|error| odd(&error))?;
    let mut out = std::io::stdout().lock();
    let is_screen = isatty(&out) && !json;
    let mut first = true;
    loop {
        let began = Instant::now();
        let snapshot = snapshot(&paths.socket, json);
        let title = format!("every {} s, {}", every.as_secs_f64(), clock(now()));
        let text = match (is_screen, json) {
            (true, _) => frame(&format!("{title}, ^C ends\n\n{snapshot}"), tcgetwinsize(&out).ok(), first),
            (false, false) if first => format!("{title}\n{snapshot}"),
            (false, false) => format!("\n{title}\n{snapshot}"),
            (false, true) => snapshot,
        };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.map_err(|error| odd(&error))?,
        }
        first = false;
        if interrupted.recv_timeout(every.saturating_sub(began.elapsed())).is_ok() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What there is to show: the broker, or why it is not to be seen.
fn snapshot(socket: &Path, json: bool) -> String {
    let shown = match ask(socket, "/v1/status") {
        Ok(body) => read(&body, json).map(|(text, _)| text),
        Err(Missed::Absent) => Err(no_broker()),
        Err(Missed::Failed(failure)) => Err(failure),
    };
    shown.unwrap_or_else(|failure| match json {
        true => serde_json::to_string_pretty(&failure).unwrap_or_default() + "\n",
        false => one_line(&failure.to_string()) + "\n",
    })
}

/// Text that overwrites the screen from its top and clears what is left of the one before.
fn frame(text: &str, size: Option<Winsize>, first: bool) -> String {
    let (rows, columns) = match size {
        Some(size) if size.ws_row > 1 && size.ws_col > 1 => (size.ws_row.into(), size.ws_col.into()),
        _ => (usize::MAX, usize::MAX),
    };
    let mut lines: Vec<String> = text.lines().map(|line| line.chars().take(columns).collect()).collect();
    if lines.len() >= rows {
        // The last row stays free: a line break on it would scroll.
        let hidden = lines.len() - (rows - 2);
        lines.truncate(rows - 2);
        lines.push(format!("({} more)", count(hidden as u64, "line")).chars().take(columns).collect());
    }
    let mut frame = if first { format!("{HOME}{CLEAR_BELOW}") } else { HOME.to_owned() };
    for line in lines {
        frame.push_str(&format!("{line}{CLEAR_LINE}\n"));
    }
    frame + CLEAR_BELOW
}

/// Says when ^C comes. A broker that is being waited for delays the end no longer than [`GRACE`].
fn interrupts() -> std::io::Result<Receiver<()>> {
    let (mut came, signalled) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, signalled)?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        if came.read_exact(&mut [0]).is_ok() && tell.send(()).is_ok() {
            std::thread::sleep(GRACE);
            std::process::exit(0);
        }
    });
    Ok(told)
}

fn odd(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Internal, format!("watching failed: {error}")).hint("natssh status")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(rows: u16, columns: u16) -> Option<Winsize> {
        Some(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
    }

    #[test]
    fn a_frame_overwrites_the_one_before_and_leaves_nothing_of_it() {
        assert_eq!(frame("a\n\nb\n", size(24, 80), false), "\x1b[Ha\x1b[K\n\x1b[K\nb\x1b[K\n\x1b[J");
        assert!(frame("a\n", size(24, 80), true).starts_with("\x1b[H\x1b[Ja"));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_never_scrolls() {
        let text = "0123456789\n".repeat(30);
        let shown = frame(&text, size(10, 9), false);
        assert_eq!(shown.matches('\n').count(), 9, "one row is free");
        assert!(shown.contains("(22 lines") && !shown.contains("(22 lines "), "{shown:?}");
        assert!(shown.contains("012345678\x1b[K") && !shown.contains('9'), "{shown:?}");
        assert_eq!(frame(&text, None, false).matches('\n').count(), 30);
        assert_eq!(frame(&text, size(2, 80), false).matches('\n').count(), 1);
    }
}
