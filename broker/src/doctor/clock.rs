//! The clock: certificates are good from one second to another, by this machine's time.
//!
//! Teleport dates the beginning of a certificate back by a minute, and one that
//! has not begun tells of a clock that is at least so far behind. SSH itself tells no time.

use super::Finding;
use super::bounded::program;
use super::identity::Known;
use crate::text::in_words;
use std::process::Command;
use std::time::Duration;

/// `timedatectl` may have to wake a service.
const LIMIT: Duration = Duration::from_secs(2);
/// What keeps a clock right.
const FIX: &str = "sudo timedatectl set-ntp true";

/// What is known of the clock.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// Whether something keeps it right; none where nobody can tell.
    synchronized: Option<bool>,
}

pub(super) fn gather() -> Clock {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    let said = program(command, LIMIT).filter(|said| said.well);
    Clock {
        synchronized: said.and_then(|said| match said.text.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }),
    }
}

pub(super) fn judge(clock: &Clock, identities: &[Known], now: u64) -> Vec<Finding> {
    let from = |known: &Known| Some((known.certified()?.from?, known.name().to_owned()));
    let latest = identities.iter().filter_map(from).max();
    let finding = match (latest, clock.synchronized) {
        (Some((from, name)), _) if from > now => {
            let behind = in_words(from - now);
            let text = format!("this clock is {behind} behind the one that issued the certificate of {name}");
            Finding::failure("clock", text, FIX)
        }
        (_, Some(false)) => {
            let text = "nothing keeps this clock right; certificates count by it";
            Finding::warning("clock", text, FIX)
        }
        (Some((from, name)), _) => {
            let since = in_words(now - from);
            Finding::ok("clock", format!("agrees with the certificate of {name}, which began {since} ago"))
        }
        (None, Some(true)) => Finding::ok("clock", "kept right by the system"),
        (None, None) => Finding::ok("clock", "no certificate to compare it with"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::identity::tests::known;
    use super::*;
    use crate::identity::Validity;

    #[test]
    fn a_certificate_from_the_future_is_a_clock_from_the_past() {
        let judged = |from, synchronized| {
            let identities = [known(Some(500), Validity::Valid), known(from, Validity::Valid)];
            judge(&Clock { synchronized }, &identities, 1000)[0].clone()
        };
        assert_eq!(judged(Some(940), None).verdict, Verdict::Ok);
        assert_eq!(judged(None, Some(true)).verdict, Verdict::Ok);
        assert_eq!(judged(None, Some(false)).verdict, Verdict::Warning);
        let behind = judged(Some(1300), Some(true));
        assert_eq!(behind.verdict, Verdict::Failure);
        assert!(behind.message.contains("5 min behind"), "{}", behind.message);
    }
}
