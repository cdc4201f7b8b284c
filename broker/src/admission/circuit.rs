//! The breaker between one way of authenticating and one server.

use super::breaker::Breaker;
use super::{Admission, Gate, Server};
use crate::failures::unix_now;
use crate::text::time_of_day;
use natssh_wire::{Failure, FailureKind, status};
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::time::Instant;

/// All breakers that are not closed.
pub(super) type Breakers = HashMap<Key, Breaker>;

/// Whom a server has refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    server: Server,
    login: String,
    identity: String,
    /// Tells the agents of two callers apart.
    agent: Option<String>,
}

/// The way to one breaker.
#[derive(Debug, Clone)]
pub struct Circuit {
    admission: Arc<Admission>,
    key: Key,
}

impl Gate {
    /// The breaker of this server for who logs in like that. Without a login, the identity decides.
    #[must_use]
    pub fn circuit(&self, login: Option<&str>, identity: &str, agent: Option<String>) -> Circuit {
        let (login, identity) = (login.unwrap_or_default().to_owned(), identity.to_owned());
        let key = Key { server: self.server.clone(), login, identity, agent };
        Circuit { admission: self.gates.admission.clone(), key }
    }
}

impl Circuit {
    /// Whether the server may be asked, with an identity of `generation`. Who may must say what came of it.
    ///
    /// # Errors
    /// What the server said when it was asked last.
    pub fn ask(&self, generation: u64) -> Result<(), Failure> {
        self.breakers().get_mut(&self.key).map_or(Ok(()), |breaker| breaker.ask(generation, Instant::now()))
    }

    /// The server took it.
    pub fn accepted(&self) {
        self.breakers().remove(&self.key);
    }

    /// It came to nothing; a refusal counts, whatever else failed does not.
    pub fn failed(&self, generation: u64, failure: &Failure) {
        let (mut breakers, now) = (self.breakers(), Instant::now());
        if failure.kind != FailureKind::Denied {
            if let Some(breaker) = breakers.get_mut(&self.key) {
                breaker.unanswered();
            }
            return;
        }
        breakers.retain(|_, breaker| !breaker.is_forgotten(now));
        let mut breaker = Breaker::after(breakers.get(&self.key), generation, now, failure.clone());
        let again = time_of_day(unix_now() + (breaker.until - now).as_secs());
        breaker.failure.message += &format!("; it is not asked again before {again}");
        breakers.insert(self.key.clone(), breaker);
    }

    /// A person says that it is worth asking.
    pub fn close(&self) {
        self.accepted();
    }

    /// Its entry in `status`, unless it is closed.
    #[must_use]
    pub fn report(&self) -> Option<status::Breaker> {
        let (breakers, now) = (self.breakers(), Instant::now());
        let breaker = breakers.get(&self.key)?;
        Some(status::Breaker {
            server: self.key.server.to_string(),
            login: Some(self.key.login.clone()).filter(|login| !login.is_empty()),
            identity: self.key.identity.clone(),
            state: match breaker.is_half_open(now) {
                true => status::BreakerState::HalfOpen,
                false => status::BreakerState::Open,
            },
            refusals: breaker.refusals,
            until: unix_now() + breaker.until.saturating_duration_since(now).as_secs(),
        })
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.admission.breakers()
    }
}

impl Admission {
    /// An identity of that name is another one from now on.
    pub fn identity_replaced(&self, name: &str) {
        self.breakers().retain(|key, _| key.identity != name);
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gates;
    use super::super::breaker::FIRST;
    use super::*;
    use natssh_wire::NodeAddr;

    fn circuit(admission: &Arc<Admission>, login: &str) -> Circuit {
        let gate = Gates::new(admission, "office", 8).dialled(&NodeAddr::new("proxy", "3023").unwrap());
        gate.circuit(Some(login), "me", None)
    }

    fn denied() -> Failure {
        Failure::new(FailureKind::Denied, "proxy proxy:3023 refused \"root\"").hint("tsh login")
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_to_all_with_the_time_of_the_next_attempt() {
        let admission = Arc::default();
        let (one, same) = (circuit(&admission, "root"), circuit(&admission, "root"));
        one.ask(1).unwrap();
        one.failed(1, &denied());
        let told = same.ask(1).unwrap_err();
        assert!(told.message.starts_with("proxy proxy:3023 refused \"root\"; it is not asked again before "));
        assert_eq!((told.kind, told.hint.as_deref()), (FailureKind::Denied, Some("tsh login")));
        assert!(circuit(&admission, "ops").ask(1).is_ok());
        assert_eq!(one.report().unwrap().state, status::BreakerState::Open);
        tokio::time::sleep(FIRST).await;
        assert_eq!(one.report().unwrap().state, status::BreakerState::HalfOpen);
        one.ask(1).unwrap();
        same.ask(1).unwrap_err();
        one.failed(1, &Failure::new(FailureKind::Unreachable, "gone"));
        same.ask(1).unwrap();
        same.accepted();
        assert_eq!(one.report(), None);
    }

    #[tokio::test]
    async fn a_person_or_another_identity_closes_it() {
        let admission = Arc::default();
        let circuit = circuit(&admission, "root");
        circuit.failed(1, &denied());
        circuit.close();
        circuit.ask(1).unwrap();
        circuit.failed(1, &denied());
        admission.identity_replaced("me");
        circuit.ask(1).unwrap();
    }
}
