//! Faults of the path and of the first hop.

use std::time::{Duration, Instant};

use bytes::Bytes;
use natssh_lab::Fault as LabFault;
use natssh_lab::faults::ProxyFault;
use natssh_lab::relay::{Spoil, Then};
use natssh_tests::{Running, Said};

use crate::faults::Outcome;
use crate::ground::{BOUND, Ground, has_trunks};

pub(crate) fn ask(ground: &Ground) -> Result<Outcome, String> {
    Ok(Outcome::Said(ground.ask("asked")))
}

/// All connections are new, and the server's words come to harm on each.
pub(crate) fn spoilt(ground: &Ground, after: usize, then: Then) -> Result<Outcome, String> {
    ground.path().spoil(Spoil { after, then });
    ask(ground)
}

/// Where natssh speaks SSH it gives up at the end of its own deadline.
pub(crate) fn trickling(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("ssh's own affair: natssh carries bytes at any pace"));
    }
    spoilt(ground, 0, Then::Trickle(Duration::from_millis(100)))
}

pub(crate) fn says(ground: &Ground, bytes: &'static [u8]) -> Result<Outcome, String> {
    spoilt(ground, 0, Then::Say(Bytes::from_static(bytes)))
}

/// The stand-in proxy has a process to end; the other servers are one for each connection.
pub(crate) fn killed(ground: &Ground) -> Result<Outcome, String> {
    if !ground.way.is_teleport() {
        return spoilt(ground, 0, Then::End);
    }
    ground.world.fault(LabFault::Proxy(ProxyFault::Stop));
    let said = ground.ask("asked");
    ground.world.fault(LabFault::Proxy(ProxyFault::Start));
    Ok(Outcome::Said(said))
}

/// A command that is running ends as ssh does that lost its node, and says so.
pub(crate) fn in_mid_stream(ground: &Ground, fault: fn(&Ground)) -> Result<Outcome, String> {
    let held = ground.hold();
    fault(ground);
    let since = Instant::now();
    let said = ended(held)?;
    if said.code != Some(255) || said.stderr.is_empty() {
        return Err(format!("the command ended with {:?}: {:?}", said.code, said.stderr));
    }
    let took = since.elapsed();
    if !has_trunks(ground.way) {
        return Ok(Outcome::Seen(first_line(&said.stderr), took));
    }
    // ssh only knows that its descriptor was closed.
    let why = ground.world.why(&ground.node()).text();
    let cut = why.lines().find_map(|line| line.split_once(": ")?.1.contains("was cut").then_some(line));
    let cut = cut.ok_or_else(|| format!("natssh why says nothing of it: {why}"))?;
    Ok(Outcome::Seen(
        format!("natssh why: {}", cut.split_once("through lab: ").map_or(cut, |(_, cut)| cut)),
        took,
    ))
}

/// What runs on the lost connection ends, and new commands work at once on another.
pub(crate) fn forgotten(ground: &Ground) -> Result<Outcome, String> {
    let held = ground.hold();
    ground.path().forget();
    let said = ended(held)?;
    let (took, code) = (said.took, said.code);
    let next = ground.ask("asked");
    if next.code != Some(0) {
        return Err(format!("a new command fails: {}", next.stderr));
    }
    if code != Some(255) {
        return Err(format!("the command ended with {code:?}"));
    }
    Ok(Outcome::Seen("ends, and new ones work".into(), took))
}

/// Less than the keepalive allows harms nobody.
pub(crate) fn a_moment(ground: &Ground) -> Result<Outcome, String> {
    let mut held = ground.hold();
    let since = Instant::now();
    ground.path().freeze();
    std::thread::sleep(Duration::from_millis(1500));
    ground.path().resume();
    held.write(b"still here\n");
    held.until_said("still here");
    let took = since.elapsed();
    match held.end().code {
        Some(0) => Ok(Outcome::Seen("nobody notices".into(), took)),
        other => Err(format!("the command ended with {other:?}")),
    }
}

/// Waits for the end of a command that loses its node.
pub(crate) fn ended(mut held: Running) -> Result<Said, String> {
    natssh_tests::wait::within(BOUND, || held.has_ended().then_some(()))
        .ok_or_else(|| format!("the command has not ended after {BOUND:?}"))?;
    Ok(held.end())
}

pub(crate) fn first_line(text: &str) -> String {
    let ours = text.lines().find(|line| line.starts_with("natssh"));
    ours.or_else(|| text.lines().next()).unwrap_or_default().to_owned()
}
