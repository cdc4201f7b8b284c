//! The faults, in the order of the table.

use std::time::{Duration, Instant};

use bytes::Bytes;
use natssh_lab::Fault as LabFault;
use natssh_lab::faults::{CertFault, ProxyFault};
use natssh_lab::relay::{Spoil, Then};
use natssh_tests::way::Way;
use natssh_tests::{Running, Said};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::ground::{BOUND, Ground, descriptors, has_trunks};

/// One line of the table.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Brings it about, asks, and takes away what is not the path's.
    pub(crate) bring: fn(&Ground) -> Result<Outcome, String>,
    /// Whether a command may work in spite of it.
    pub(crate) survivable: bool,
    /// Words that name the culprit, besides the address of the first hop and the node's name.
    pub(crate) words: &'static [&'static str],
    /// Whether it belongs to the part that runs with the other tests.
    pub(crate) quick: bool,
}

/// What a fault led to.
pub(crate) enum Outcome {
    /// A command was asked for, and ended so.
    Said(Said),
    /// Something else was looked at, and was as it should be.
    Seen(String, Duration),
    /// There is nothing to break here; the reason.
    Nothing(&'static str),
}

const REFUSED: Fault =
    Fault { name: "", bring: |_| Ok(Outcome::Nothing("")), survivable: false, words: &[], quick: false };

pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "first hop killed", bring: killed, quick: true, ..REFUSED },
    Fault {
        name: "path reset, and again on every dial",
        bring: |g| {
            g.path().cut();
            ask(g)
        },
        ..REFUSED
    },
    Fault {
        name: "path silent",
        bring: |g| {
            g.path().freeze();
            ask(g)
        },
        ..REFUSED
    },
    Fault { name: "reset before the banner", bring: |g| spoilt(g, 0, Then::Reset), ..REFUSED },
    Fault { name: "reset in the banner", bring: |g| spoilt(g, 10, Then::Reset), quick: true, ..REFUSED },
    Fault { name: "reset in the key exchange", bring: |g| spoilt(g, 400, Then::Reset), ..REFUSED },
    Fault { name: "reset at the host key", bring: |g| spoilt(g, 1300, Then::Reset), quick: true, ..REFUSED },
    Fault {
        name: "reset in authentication",
        bring: |g| spoilt(g, 2050, Then::Reset),
        survivable: true,
        ..REFUSED
    },
    Fault { name: "end of file in the key exchange", bring: |g| spoilt(g, 400, Then::End), ..REFUSED },
    Fault { name: "half-open: accepted, then silence", bring: |g| spoilt(g, 0, Then::Silence), ..REFUSED },
    Fault {
        name: "silence in the key exchange",
        bring: |g| spoilt(g, 400, Then::Silence),
        quick: true,
        ..REFUSED
    },
    Fault { name: "a byte every 100 ms", bring: trickling, ..REFUSED },
    Fault {
        name: "a byte each millisecond",
        bring: |g| spoilt(g, 0, Then::Trickle(Duration::from_millis(1))),
        survivable: true,
        ..REFUSED
    },
    Fault {
        name: "a web server answers",
        bring: |g| says(g, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        words: &["web server"],
        quick: true,
        ..REFUSED
    },
    Fault { name: "a mail server answers", bring: |g| says(g, b"220 mail.example.com ESMTP\r\n"), ..REFUSED },
    Fault {
        name: "a TLS server answers",
        bring: |g| says(g, b"\x15\x03\x01\x00\x02\x02\x46"),
        words: &["TLS"],
        ..REFUSED
    },
    Fault { name: "garbage instead of a banner", bring: |g| says(g, &[0xa5; 4096]), ..REFUSED },
    Fault {
        name: "garbage in the key exchange",
        bring: |g| spoilt(g, 400, Then::Say(Bytes::from_static(&[0xa5; 4096]))),
        ..REFUSED
    },
    Fault {
        name: "a packet of 4 GiB announced",
        bring: |g| says(g, b"SSH-2.0-OpenSSH_9.2\r\n\xff\xff\xff\xff\x04\x14"),
        ..REFUSED
    },
    Fault {
        name: "cut in mid-stream",
        bring: |g| in_mid_stream(g, |g| g.path().cut()),
        quick: true,
        ..REFUSED
    },
    Fault { name: "silent in mid-stream", bring: |g| in_mid_stream(g, |g| g.path().freeze()), ..REFUSED },
    Fault { name: "NAT forgets the connection (other port)", bring: forgotten, ..REFUSED },
    Fault { name: "silent for a moment", bring: a_moment, ..REFUSED },
    Fault {
        name: "certificate expired",
        bring: |g| certificate(g, CertFault::Expire),
        words: &["expired"],
        ..REFUSED
    },
    Fault { name: "certificate swapped", bring: swapped, ..REFUSED },
    Fault { name: "certificate torn", bring: torn, words: &["-cert.pub"], survivable: true, ..REFUSED },
    Fault {
        name: "descriptors used up",
        bring: descriptors_used_up,
        words: &["open files"],
        survivable: true,
        ..REFUSED
    },
    Fault { name: "log on a full disk", bring: full_log, survivable: true, ..REFUSED },
    Fault {
        name: "names no longer resolve",
        bring: no_names,
        words: &["resolve", "lookup", "name"],
        ..REFUSED
    },
    Fault { name: "broker killed with -9 in mid-run", bring: broker_killed, ..REFUSED },
    Fault { name: "clock jumps ahead (machine asleep)", bring: asleep, survivable: true, ..REFUSED },
];

fn ask(ground: &Ground) -> Result<Outcome, String> {
    Ok(Outcome::Said(ground.ask("asked")))
}

/// All connections are new, and the server's words come to harm on each.
fn spoilt(ground: &Ground, after: usize, then: Then) -> Result<Outcome, String> {
    ground.path().spoil(Spoil { after, then });
    ask(ground)
}

/// Where natssh speaks SSH it gives up at the end of its own deadline.
fn trickling(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("ssh's own affair: natssh carries bytes at any pace"));
    }
    spoilt(ground, 0, Then::Trickle(Duration::from_millis(100)))
}

fn says(ground: &Ground, bytes: &'static [u8]) -> Result<Outcome, String> {
    spoilt(ground, 0, Then::Say(Bytes::from_static(bytes)))
}

/// The stand-in proxy has a process to end; the other servers are one for each connection.
fn killed(ground: &Ground) -> Result<Outcome, String> {
    if ground.way != Way::Teleport {
        return spoilt(ground, 0, Then::End);
    }
    ground.world.fault(LabFault::Proxy(ProxyFault::Stop));
    let said = ground.ask("asked");
    ground.world.fault(LabFault::Proxy(ProxyFault::Start));
    Ok(Outcome::Said(said))
}

/// A command that is running ends as ssh does that lost its node, and says so.
fn in_mid_stream(ground: &Ground, fault: fn(&Ground)) -> Result<Outcome, String> {
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
fn forgotten(ground: &Ground) -> Result<Outcome, String> {
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
fn a_moment(ground: &Ground) -> Result<Outcome, String> {
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

fn certificate(ground: &Ground, fault: CertFault) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    ground.world.fault(LabFault::Cert(fault));
    // What is open already outlives its certificate; what is dialled does not.
    ground.path().cut();
    ground.path().resume();
    let said = ground.ask("asked");
    ground.world.fault(LabFault::Cert(CertFault::Replace));
    Ok(Outcome::Said(said))
}

/// A new login in mid-run: what runs goes on, what is new uses the new key.
fn swapped(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    let held = ground.hold();
    let since = Instant::now();
    ground.world.fault(LabFault::Cert(CertFault::Replace));
    let said = ground.ask("asked");
    if said.code != Some(0) {
        return Err(format!("a new command fails: {}", said.stderr));
    }
    match held.end().code {
        Some(0) => Ok(Outcome::Seen("nobody notices".into(), since.elapsed())),
        other => Err(format!("the command that ran ended with {other:?}")),
    }
}

/// Half of the certificate, as while it is being written.
fn torn(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    let path = cluster_certificate(&ground.world.credentials.tsh())?;
    let whole = std::fs::read(&path).map_err(|error| error.to_string())?;
    std::fs::write(&path, &whole[..whole.len() / 2]).map_err(|error| error.to_string())?;
    ground.path().cut();
    ground.path().resume();
    let said = ground.ask("asked");
    std::fs::write(&path, whole).map_err(|error| error.to_string())?;
    Ok(Outcome::Said(said))
}

/// The user's certificate in tsh's folder.
fn cluster_certificate(folder: &std::path::Path) -> Result<std::path::PathBuf, String> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with("-cert.pub") => return Ok(path),
                false => {}
            }
        }
    }
    Err("tsh's folder holds no certificate".into())
}

/// The broker may open two more, and six commands come at once.
fn descriptors_used_up(ground: &Ground) -> Result<Outcome, String> {
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
fn full_log(ground: &Ground) -> Result<Outcome, String> {
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
fn no_names(ground: &Ground) -> Result<Outcome, String> {
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
fn broker_killed(ground: &Ground) -> Result<Outcome, String> {
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
fn asleep(ground: &Ground) -> Result<Outcome, String> {
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

/// Waits for the end of a command that loses its node.
fn ended(mut held: Running) -> Result<Said, String> {
    natssh_tests::wait::within(BOUND, || held.has_ended().then_some(()))
        .ok_or_else(|| format!("the command has not ended after {BOUND:?}"))?;
    Ok(held.end())
}

fn first_line(text: &str) -> String {
    let ours = text.lines().find(|line| line.starts_with("natssh"));
    ours.or_else(|| text.lines().next()).unwrap_or_default().to_owned()
}
