//! What the log says of an identity's lifetime: each thing once.
//!
//! Pure: no I/O, and the caller supplies how things stand. A renewal starts anew,
//! so the next end is announced again.

use super::Validity;

/// What was said already of one generation of an identity.
#[derive(Debug, Default)]
pub(super) struct Notices {
    generation: u64,
    said: Vec<Stage>,
}

/// What is worth a line, without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotYetValid,
    Expiring,
    Expired,
}

impl Notices {
    /// True if this is worth a line and has had none. A clock that jumps back and forth repeats nothing.
    pub(super) fn is_news(&mut self, generation: u64, validity: Validity) -> bool {
        if self.generation != generation {
            *self = Self { generation, said: Vec::new() };
        }
        let stage = match validity {
            Validity::Valid => return false,
            Validity::NotYetValid { .. } => Stage::NotYetValid,
            Validity::Expiring { .. } => Stage::Expiring,
            Validity::Expired { .. } => Stage::Expired,
        };
        let news = !self.said.contains(&stage);
        if news {
            self.said.push(stage);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::super::lifetime::Lifetime;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_is_announced_once_when_it_is_near_and_once_when_it_has_come() {
        let (mut notices, hour) = (Notices::default(), Lifetime { from: Some(0), until: Some(3600) });
        let mut news = |generation, now| notices.is_news(generation, hour.at(now));
        let told: Vec<u64> = (0..4000).filter(|now| news(1, *now)).collect();
        assert_eq!(told, [3000, 3600]);
        assert!(news(2, 3100), "a renewed one is another");
        assert!(!news(2, 3200));
    }

    proptest! {
        #[test]
        fn nothing_is_said_twice_wherever_the_clock_jumps(times in prop::collection::vec(0_u64..200, 1..100)) {
            let (mut notices, life) = (Notices::default(), Lifetime { from: Some(50), until: Some(150) });
            let said = times.iter().filter(|now| notices.is_news(1, life.at(**now))).count();
            let stages = [
                times.iter().any(|now| *now < 50),
                times.iter().any(|now| (100..150).contains(now)),
                times.iter().any(|now| *now >= 150),
            ];
            prop_assert_eq!(said, stages.iter().filter(|seen| **seen).count());
        }
    }
}
