//! Faults of the machine on which the broker runs, and of the broker.

use std::time::{Duration, Instant};

use natssh_tests::Running;
use natssh_tests::way::Way;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::faults::Outcome;
use crate::ground::{BOUND, Ground, descriptors};
use crate::path::{ask, ended, first_line};

/// The broker may open two more, and six commands come at once.
pub(crate) fn descriptors_used_up(ground: &Ground) -> Result<Outcome, String> {
    let pid = pid(ground)?;
    let usual = getrlimit(Resource::Nofile);
    let tight = Rlimit { current: Some(descriptors(pid) as u64 + 2), maximum: usual.maximum };
    prlimit(Some(pid), Resource::Nofile, tight).map_err(|error| error.to_string())?;
    let since = Instant::now();
    let asked: Vec<_> =
        (0..6).map(|_| Running::start(ground.world.ssh(&[&ground.node(), "echo asked"]))).collect();
    let said: Vec<_> = asked.into_iter().map(|ssh| ssh.end_within(BOUND)).collect();
    let took = since.elapsed();
    prlimit(Some(pid), Resource::Nofile, usual).map_err(|error| error.to_string())?;
    let served = said.iter().filter(|said| said.code == Some(0)).count();
    for said in &said {
        let fine = match said.code {
            Some(0) => said.text() == "asked\n",
            Some(255) => !said.stderr.is_empty(),
            _ => false,
        };
        if !fine {
            return Err(format!("{:?} {:?} {}", said.code, said.text(), said.stderr));
        }
    }
    let failed = said.iter().find(|said| said.code != Some(0));
    let reason = failed.map_or_else(String::new, |said| format!(", others: {}", first_line(&said.stderr)));
    Ok(Outcome::Seen(format!("{served} of 6 served{reason}"), took))
}

/// A broker whose every line of log is refused.
pub(crate) fn full_log(ground: &Ground) -> Result<Outcome, String> {
    end_broker(ground)?;
    let full =
        std::fs::OpenOptions::new().write(true).open("/dev/full").map_err(|error| error.to_string())?;
    let mut broker = ground.world.command("natssh-broker");
    broker.arg("run");
    ground.world.start_broker_by(broker, full);
    let said = ground.ask("asked");
    end_broker(ground)?;
    ground.world.start_broker();
    Ok(Outcome::Said(said))
}

/// The first hop by a name that a resolver knew until now: a broker with files of its own in `/etc`.
pub(crate) fn no_names(ground: &Ground) -> Result<Outcome, String> {
    // The one name that the lab's certificates hold.
    const NAME: &str = "localhost";
    if ground.way == Way::Command {
        return Ok(Outcome::Nothing("names are the command's own affair"));
    }
    let private = std::process::Command::new("unshare").args(["--mount", "true"]).output();
    if !private.is_ok_and(|output| output.status.success()) {
        return Ok(Outcome::Nothing("SKIPPED: needs root"));
    }
    let world = &ground.world;
    let (hosts, resolver) = (world.path().join("hosts"), world.path().join("resolv.conf"));
    let write =
        |path: &std::path::Path, text: &str| std::fs::write(path, text).map_err(|error| error.to_string());
    write(&hosts, &format!("127.0.0.1 {NAME}\n"))?;
    write(&resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    let config = std::fs::read_to_string(world.config_path()).map_err(|error| error.to_string())?;
    let port = ground.path().address().port();
    let by_name = match ground.way {
        Way::Direct => config.replace("\"127.0.0.1\"", &format!("\"{NAME}\"")),
        _ => config.replace(&format!("127.0.0.1:{port}"), &format!("{NAME}:{port}")),
    };
    if by_name == config {
        return Err("the configuration names no first hop".into());
    }
    write(&world.config_path(), &by_name)?;
    end_broker(ground)?;
    let script = format!(
        "mount --bind '{}' /etc/hosts && mount --bind '{}' /etc/resolv.conf && exec natssh-broker run",
        hosts.display(),
        resolver.display()
    );
    let mut broker = world.command("unshare");
    broker.args(["--mount", "sh", "-c", &script]);
    let log = std::fs::File::create(world.path().join("log")).map_err(|error| error.to_string())?;
    world.start_broker_by(broker, log);
    write(&hosts, "127.0.0.1 nobody\n")?;
    let said = ground.ask("asked");
    end_broker(ground)?;
    write(&world.config_path(), &config)?;
    world.start_broker();
    Ok(Outcome::Said(said))
}

/// The command that ran ends, and the next one starts a broker for itself.
pub(crate) fn broker_killed(ground: &Ground) -> Result<Outcome, String> {
    let held = ground.hold();
    end_broker(ground)?;
    let lost = ended(held)?;
    if lost.code != Some(255) {
        return Err(format!("the command that ran ended with {:?}", lost.code));
    }
    let said = ground.ask("asked");
    if said.code != Some(0) {
        return Err(format!("no broker started by itself: {}", said.stderr));
    }
    Ok(Outcome::Seen(format!("{}; the next starts a broker", first_line(&lost.stderr)), said.took))
}

/// The broker stands still for longer than its keepalive allows a path to, as when a machine wakes up. One process's
/// wall clock cannot be moved without moving the machine's: what goes by it takes the time as an argument, and is
/// tested where it stands.
pub(crate) fn asleep(ground: &Ground) -> Result<Outcome, String> {
    let pid = pid(ground)?;
    signal(pid, Signal::STOP)?;
    std::thread::sleep(Duration::from_secs(5));
    signal(pid, Signal::CONT)?;
    ask(ground)
}

fn pid(ground: &Ground) -> Result<Pid, String> {
    ground.world.broker_pid().ok_or_else(|| "the broker does not answer".to_owned())
}

fn signal(pid: Pid, signal: Signal) -> Result<(), String> {
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Kills the broker, and waits until it answers no more.
fn end_broker(ground: &Ground) -> Result<(), String> {
    let pid = pid(ground)?;
    signal(pid, Signal::KILL)?;
    natssh_tests::until("the broker is gone", || ground.world.broker_pid().is_none().then_some(()));
    Ok(())
}
