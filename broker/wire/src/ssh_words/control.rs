//! `-O`: what is asked of the connection that is kept.

use super::Invocation;

/// What natssh answers by its own sessions, as ssh does by its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `check`: is there one?
    Check,
    /// `stop`: the next command authenticates afresh, and running ones finish.
    Stop,
    /// `exit`: close it at once, with all that runs on it.
    Exit,
}

impl Control {
    /// Its name behind `-O`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Stop => "stop",
            Self::Exit => "exit",
        }
    }
}

/// None for what forwards ports, and for words that ssh refuses beside a first `-O`.
pub(super) fn of(call: &Invocation) -> Option<Control> {
    let asked = call.value('O')?.as_bytes();
    let alone = call.count('O') == 1 && !call.has('W') && !call.has('G') && !call.host().is_empty();
    let all = [Control::Check, Control::Stop, Control::Exit];
    all.into_iter().find(|control| alone && control.name().as_bytes() == asked)
}
