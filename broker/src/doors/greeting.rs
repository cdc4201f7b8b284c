//! What ssh would say at its start, for a client that speaks frames.

use crate::pool::Node;
use natssh_wire::frame::FromBroker;
use natssh_wire::ssh_words::LogLevel;

/// The warning of the session's opening, for the first who hears of it, and `lines` with the level of each.
pub(super) fn greeting<'a>(
    level: LogLevel,
    node: &'a Node,
    lines: &'a [(u8, String)],
) -> impl Iterator<Item = FromBroker<'a>> {
    let warning = if level >= LogLevel::Info { node.warning() } else { None };
    let warning = warning.map(|line| FromBroker::Debug(0, line));
    let lines = lines.iter().filter(move |(of, _)| *of <= level.debug());
    warning.into_iter().chain(lines.map(|(level, line)| FromBroker::Debug(*level, line)))
}
