//! The identities: can they be read, how long do they last.

use super::Finding;
use super::bounded::within;
use crate::config::Settings;
use crate::failures::unix_now;
use crate::identity::{Identity, IdentityError, Source, Validity};
use crate::text::in_words;
use natssh_wire::{Failure, FailureKind};
use std::time::Duration;

/// Files are quick; an agent may wait for a person, and is not waited for.
const LIMIT: Duration = Duration::from_secs(3);

/// One identity of the configuration.
#[derive(Debug)]
pub(super) struct Known {
    name: String,
    /// Where it comes from, in words.
    source: String,
    /// What can be seen of it.
    loaded: Result<Certified, Failure>,
}

/// What matters of an identity that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certified {
    user: Option<String>,
    validity: Validity,
    /// The first second of validity.
    pub(super) from: Option<u64>,
    /// The first second after it; none for a plain key.
    until: Option<u64>,
    /// How to get a new one.
    renew: String,
}

impl Known {
    /// The certificate's times, where there is one.
    pub(super) fn certified(&self) -> Option<&Certified> {
        self.loaded.as_ref().ok()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

pub(super) fn gather(settings: Option<&Settings>) -> Vec<Known> {
    let identities = settings.into_iter().flat_map(|settings| &settings.identities);
    identities.map(|(name, source)| look(name, source)).collect()
}

fn look(name: &str, source: &Source) -> Known {
    let source = source.for_this_process();
    let words = source.to_string();
    let asked = (name.to_owned(), source);
    let loaded = within(LIMIT, move || Identity::load(&asked.0, &asked.1, 0));
    let loaded = match loaded {
        Some(loaded) => {
            loaded.map(|identity| certified(&identity)).map_err(|error: IdentityError| error.to_failure())
        }
        None => {
            let text = format!("{words} did not answer within {} s", LIMIT.as_secs());
            Err(Failure::new(FailureKind::Identity, text).hint("ssh-add -l"))
        }
    };
    Known { name: name.to_owned(), source: words, loaded }
}

fn certified(identity: &Identity) -> Certified {
    Certified {
        user: identity.user.clone(),
        validity: identity.validity(unix_now()),
        from: identity.lifetime.from,
        until: identity.lifetime.until,
        renew: identity.renew.clone(),
    }
}

pub(super) fn judge(identities: &[Known], now: u64) -> Vec<Finding> {
    identities.iter().map(|identity| judge_one(identity, now)).collect()
}

fn judge_one(known: &Known, now: u64) -> Finding {
    let Known { name, source, loaded } = known;
    let certified = match loaded {
        Ok(certified) => certified,
        Err(failure) => {
            let fix = failure.hint.clone().unwrap_or_else(|| "natssh config show".into());
            return Finding::failure("identity", format!("{name} ({source}): {}", failure.message), fix);
        }
    };
    let who = certified.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default();
    match certified.validity {
        Validity::Valid => {
            let left = certified.until.map(|until| in_words(until.saturating_sub(now)));
            let left = left.map_or_else(|| "no end".into(), |left| format!("{left} left"));
            Finding::ok("identity", format!("{name}{who} ({source}): {left}"))
        }
        Validity::Expiring { left } => {
            let text = format!("{name}{who} ({source}) ends in {}", in_words(left));
            Finding::warning("identity", text, &certified.renew)
        }
        Validity::Expired { since } => {
            let text = format!("{name}{who} ({source}) ended {} ago", in_words(since));
            Finding::failure("identity", text, &certified.renew)
        }
        Validity::NotYetValid { starts_in } => {
            let text = format!("{name}{who} ({source}) is valid only in {}", in_words(starts_in));
            Finding::failure("identity", text, "date; timedatectl")
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Verdict;
    use super::*;

    /// An identity whose certificate began then.
    pub(in super::super) fn known(from: Option<u64>, validity: Validity) -> Known {
        let certified = Certified {
            user: Some("alice".into()),
            validity,
            from,
            until: Some(4600),
            renew: "tsh login".into(),
        };
        Known { name: "me".into(), source: "tsh profile p".into(), loaded: Ok(certified) }
    }

    #[test]
    fn what_ends_or_has_ended_is_told_with_the_way_to_a_new_one() {
        let judged = |validity| {
            let finding = judge_one(&known(Some(0), validity), 1000);
            (finding.verdict, finding.message, finding.fix)
        };
        let renew = Some("tsh login".to_owned());
        assert_eq!(
            judged(Validity::Valid),
            (Verdict::Ok, "me of alice (tsh profile p): 60 min left".into(), None)
        );
        let said = judged(Validity::Expiring { left: 300 });
        assert_eq!(
            said,
            (Verdict::Warning, "me of alice (tsh profile p) ends in 5 min".into(), renew.clone())
        );
        let said = judged(Validity::Expired { since: 60 });
        assert_eq!(said, (Verdict::Failure, "me of alice (tsh profile p) ended 60 s ago".into(), renew));
        assert_eq!(judged(Validity::NotYetValid { starts_in: 60 }).0, Verdict::Failure);
    }

    #[test]
    fn one_that_cannot_be_read_says_why() {
        let failure = Failure::new(FailureKind::Identity, "k can be read by others").hint("chmod 600 k");
        let known = Known { name: "me".into(), source: "key k".into(), loaded: Err(failure) };
        let finding = judge_one(&known, 0);
        assert_eq!((finding.verdict, finding.fix.as_deref()), (Verdict::Failure, Some("chmod 600 k")));
    }
}
