//! One fault over one way in: what was seen, how long it took, and what went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use natssh_tests::Said;
use natssh_tests::wait::within;

use crate::faults::{Fault, Outcome};
use crate::ground::{BOUND, Ground, descriptors, has_trunks};
use crate::table;

/// How long the broker may need to close what the fault has left behind.
const SETTLE: Duration = Duration::from_secs(15);

/// What became of it.
pub(crate) struct Cell {
    /// For the table.
    pub(crate) seen: String,
    /// The command under the fault; none where there was none.
    pub(crate) took: Option<Duration>,
    /// From the fault's end to a command that worked.
    pub(crate) recovered: Option<Duration>,
    /// A broken promise.
    pub(crate) wrong: Option<String>,
}

/// Brings the fault about, and takes it away again.
pub(crate) fn run(ground: &Ground, fault: &Fault) -> Cell {
    let mut cell = Cell { seen: String::new(), took: None, recovered: None, wrong: None };
    let tried = catch_unwind(AssertUnwindSafe(|| attempt(ground, fault, &mut cell)));
    let wrong = match tried {
        Ok(result) => result.err(),
        Err(panic) => Some(words_of(&*panic)),
    };
    // The next fault needs a whole ground.
    ground.path().resume();
    if let Some(wrong) = wrong {
        cell.seen = format!("WRONG {}", cell.seen);
        cell.wrong = Some(format!("{} over {}: {wrong}", fault.name, ground.way));
    }
    let wrong = cell.wrong.as_deref().unwrap_or_default();
    eprintln!("{:>12}  {}: {} {wrong}", ground.way, fault.name, table::words(&cell));
    cell
}

fn attempt(ground: &Ground, fault: &Fault, cell: &mut Cell) -> Result<(), String> {
    let well = answered(ground, "before", BOUND).ok_or("the ground was not whole before")?;
    drop(well);
    let (pid, before) = settled(ground)?;
    match (fault.bring)(ground)? {
        Outcome::Nothing(reason) => {
            cell.seen = reason.to_owned();
            return Ok(());
        }
        Outcome::Said(said) => {
            cell.took = Some(said.took);
            cell.seen = judge(ground, fault, &said)?;
        }
        Outcome::Seen(words, took) => (cell.seen, cell.took) = (words, Some(took)),
    }
    ground.path().resume();
    let mended = Instant::now();
    answered(ground, "again", BOUND).ok_or("no command worked after the fault had gone")?;
    cell.recovered = Some(mended.elapsed());
    if ground.world.broker_pid() == Some(pid) {
        let counted = || descriptors(pid);
        if within(SETTLE, || (counted() <= before).then_some(())).is_none() {
            return Err(format!("the broker held {before} descriptors before and holds {} now", counted()));
        }
    }
    Ok(())
}

/// Asks until a command works; a command that fails must fail within its bound.
fn answered(ground: &Ground, word: &str, limit: Duration) -> Option<Said> {
    let deadline = Instant::now() + limit;
    loop {
        let said = ground.ask(word);
        if said.code == Some(0) && said.text() == format!("{word}\n") {
            return Some(said);
        }
        if Instant::now() >= deadline {
            eprintln!("{}: {}", ground.way, said.stderr);
            return None;
        }
    }
}

/// The broker once no stream is open, and what it holds then.
fn settled(ground: &Ground) -> Result<(rustix::process::Pid, usize), String> {
    let idle = within(SETTLE, || (ground.world.upstream().streams == 0).then_some(()));
    idle.ok_or("streams stay open")?;
    let pid = ground.world.broker_pid().ok_or("the broker does not answer")?;
    Ok((pid, descriptors(pid)))
}

/// A command either worked, if the fault may be survived, or failed as ssh does, with a reason.
fn judge(ground: &Ground, fault: &Fault, said: &Said) -> Result<String, String> {
    match said.code {
        Some(0) if said.text().trim() == "asked" && fault.survivable => return Ok("served".into()),
        Some(0) => return Err(format!("wrong success: {:?}", said.text())),
        Some(255) => {}
        other => return Err(format!("ended with {other:?}: {}", said.stderr)),
    }
    if !said.stdout.is_empty() {
        return Err(format!("failed, and yet said {:?}", said.text()));
    }
    let reason =
        said.stderr.lines().find(|line| line.starts_with("natssh")).or_else(|| said.stderr.lines().next());
    let reason = reason.ok_or("it failed without a word")?;
    let why = ground.world.why(&ground.node()).text();
    let culprits = [ground.path().address().port().to_string(), ground.node()];
    let told = |text: &str| {
        culprits.iter().any(|name| text.contains(name.as_str()))
            || fault.words.iter().any(|word| text.contains(word))
    };
    // Where natssh only carries bytes, the one that ssh talks to is the one to blame.
    let by_ssh = !has_trunks(ground.way) && said.stderr.contains("onnection");
    if told(&said.stderr) || by_ssh || has_trunks(ground.way) && told(&why) {
        return Ok(reason.to_owned());
    }
    Err(format!("nobody is named by {:?}, nor by: {why}", said.stderr))
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
