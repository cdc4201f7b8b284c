//! From when until when, and how that is said to a person.
//!
//! Pure: times are seconds since 1970, and the caller supplies the present.

/// How long a credential is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// The first second; none for one that always was.
    pub from: Option<u64>,
    /// The first second after it; none for one that stays.
    pub until: Option<u64>,
}

/// How a credential stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Good.
    Valid,
    /// Good, but near its end.
    Expiring {
        /// Seconds left.
        left: u64,
    },
    /// Past its end.
    Expired {
        /// Seconds since then.
        since: u64,
    },
    /// Its beginning is still to come.
    NotYetValid {
        /// Seconds until then.
        starts_in: u64,
    },
}

/// What an expiry is announced ahead, at least: tbot renews its hour every twenty minutes.
const WARN_SECONDS: u64 = 600;

impl Lifetime {
    /// As a certificate states it: 0 and 2^64 − 1 mean always and forever.
    #[must_use]
    pub fn of_certificate(certificate: &ssh_key::Certificate) -> Self {
        Self {
            from: Some(certificate.valid_after()).filter(|at| *at > 0),
            until: Some(certificate.valid_before()).filter(|at| *at < u64::MAX),
        }
    }

    /// How it stands: near its end are the last 15 %, or ten minutes, but never more than half.
    #[must_use]
    pub fn at(&self, now: u64) -> Validity {
        if let Some(from) = self.from
            && now < from
        {
            return Validity::NotYetValid { starts_in: from - now };
        }
        let Some(until) = self.until else { return Validity::Valid };
        if now >= until {
            return Validity::Expired { since: now - until };
        }
        let life = until.saturating_sub(self.from.unwrap_or(0));
        let left = until - now;
        if left <= (life / 100 * 15).max(WARN_SECONDS).min(life / 2) {
            Validity::Expiring { left }
        } else {
            Validity::Valid
        }
    }
}

/// A span of time in words, rounded down to its largest unit: `12 minutes`.
#[must_use]
pub fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_announced() {
        let hours = |h: u64| h * 3600;
        let day = Lifetime { from: Some(1000), until: Some(1000 + hours(12)) };
        let end = 1000 + hours(12);
        assert_eq!(day.at(999), Validity::NotYetValid { starts_in: 1 });
        assert_eq!(day.at(1000), Validity::Valid);
        assert_eq!(day.at(end - hours(2)), Validity::Valid);
        assert_eq!(day.at(end - hours(1)), Validity::Expiring { left: 3600 });
        assert_eq!(day.at(end), Validity::Expired { since: 0 });
        let hour = Lifetime { from: Some(0), until: Some(3600) };
        assert_eq!(hour.at(2999), Validity::Valid);
        assert_eq!(hour.at(3000), Validity::Expiring { left: 600 });
        let minutes = Lifetime { from: Some(0), until: Some(120) };
        assert_eq!(minutes.at(30), Validity::Valid, "a short one is not near its end from its beginning");
        assert_eq!(minutes.at(60), Validity::Expiring { left: 60 });
        assert_eq!(Lifetime::default().at(u64::MAX), Validity::Valid);
    }

    #[test]
    fn spans_read_like_speech() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (12 * 60 + 59, "12 minutes"),
            (7200, "2 hours"),
            (86_399, "23 hours"),
            (3 * 86_400, "3 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }
}
