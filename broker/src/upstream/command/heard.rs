//! What a program writes to stderr: read to the end, however much it is, and the last of it kept.

use crate::text::one_line;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// How much is kept, in bytes.
const KEPT: usize = 4 << 10;
/// How much of it is shown, in bytes: an error's reason stands at its end.
const SHOWN: usize = 400;

/// The end of what was written so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    bytes: Vec<u8>,
    /// Nothing more will come.
    pub(super) ended: bool,
}

impl Heard {
    pub(super) fn take(&mut self, new: &[u8]) {
        self.bytes.extend_from_slice(new);
        let over = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..over);
    }

    /// Its last lines as one, as many as are worth showing; empty if nothing was written.
    pub(super) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut shown = text.len();
        let lines = text.trim_end().lines().rev();
        let fitting = lines.take_while(|line| {
            let first = shown == text.len();
            shown = shown.saturating_sub(line.len() + 1);
            first || text.len() - shown <= SHOWN
        });
        let mut lines: Vec<_> = fitting.collect();
        lines.reverse();
        one_line(&lines.join(" "))
    }
}

/// Reads until the last writer has left.
pub(super) async fn listen(mut stderr: impl AsyncRead + Unpin, heard: watch::Sender<Heard>) {
    let mut chunk = [0; 4 << 10];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        heard.send_modify(|heard| heard.take(&chunk[..count]));
    }
    heard.send_modify(|heard| heard.ended = true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let mut heard = Heard::default();
        text.as_bytes().chunks(7).for_each(|chunk| heard.take(chunk));
        heard.last_words()
    }

    #[test]
    fn the_last_lines_are_shown_and_no_more_than_is_worth_it() {
        assert_eq!(words(""), "");
        assert_eq!(words("\n \n"), "");
        assert_eq!(
            words("An error occurred\r\n(TargetNotConnected)\n"),
            "An error occurred (TargetNotConnected)"
        );
        let many: String = (0..1000).map(|n| format!("debug line {n}\n")).collect();
        let shown = words(&(many + "it failed\n"));
        assert!(shown.ends_with("debug line 999 it failed"), "{shown}");
        assert!(shown.len() <= SHOWN && shown.starts_with("debug line 9"), "{shown}");
        assert_eq!(words("\x1b[31mred\x1b[0m"), "[31mred[0m");
    }

    #[tokio::test]
    async fn a_flood_is_read_to_its_end_and_not_kept() {
        let (sender, heard) = watch::channel(Heard::default());
        listen(tokio::io::repeat(b'x').take(10 << 20), sender).await;
        assert!(heard.borrow().ended);
        assert_eq!(heard.borrow().bytes.len(), KEPT);
        assert_eq!(heard.borrow().last_words().chars().count(), 501, "one long line is cut at its end");
    }
}
