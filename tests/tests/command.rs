//! An upstream that is a ProxyCommand: every byte arrives, its reason is told
//! when it fails, and nothing that it started stays behind.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use natssh_lab::processes::Process;
use natssh_tests::bytes::{FEW, MANY, both_ways, checksum};
use natssh_tests::{Plan, Running, World, door, need, run, until};
use rustix::process::{Pid, Signal, kill_process};

/// A world whose broker reaches every host by this command.
fn by_command(command: &str, more: &str) -> World {
    let world = Plan::new().without_broker().start();
    set_command(&world, command, more);
    world.start_broker();
    world
}

/// Writes the configuration; in `command`, `SSHD` becomes the server of the node that `%h` names.
fn set_command(world: &World, command: &str, more: &str) {
    let sshd = natssh_lab::tools::find("sshd").expect("it was asked for");
    let nodes = world.lab.folder().node("worker");
    let nodes = nodes.parent().expect("a folder of nodes").display();
    let command = command.replace("SSHD", &format!("{} -i -e -f {nodes}/%h/ssh/sshd_config", sshd.display()));
    world.write_config(&format!(
        "default = \"lab\"\n\n[upstream.lab]\nkind = \"command\"\ncommand = '''{command}'''\n{more}\n"
    ));
}

/// The processes that the broker has started, once there are at least so many.
fn started(world: &World, least: usize) -> Vec<Process> {
    until("the broker has started them", || Some(world.started_by_broker()).filter(|all| all.len() >= least))
}

/// Waits until these have ended, which the system may have given to another parent.
fn until_ended(processes: &[Process]) {
    until("they have ended", || processes.iter().all(|process| !process.is_alive()).then_some(()));
}

/// Waits until the broker has no process left.
fn until_alone(world: &World) {
    until("every process of the broker has ended", || world.started_by_broker().is_empty().then_some(()));
}

#[test]
fn ssh_reaches_nodes_by_a_command_and_nothing_stays_behind() {
    need!("ssh", "sshd");
    let world = by_command("SSHD", "");
    for code in [0, 3, 255] {
        let said = run(world.ssh(&["worker", &format!("echo here; exit {code}")]));
        assert_eq!((said.code, said.text().as_str(), said.stderr.as_str()), (Some(code), "here\n", ""));
    }
    let open = Running::interactive(world.ssh(&["control-plane", "echo open; cat"]));
    open.until_said("open");
    let started = started(&world, 1);
    assert_eq!(world.upstream().streams, 1);
    open.end().ok();
    until_ended(&started);
    until_alone(&world);
    let upstream = world.until_upstream("all streams have ended", |upstream| upstream.streams == 0);
    assert_eq!((upstream.kind.as_str(), upstream.streams_total, upstream.streams_cut), ("command", 4, 0));
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

#[test]
fn twenty_at_once_have_a_process_each() {
    need!("ssh", "sshd");
    let world = by_command("SSHD", "connect_timeout = \"9s\"");
    let all: Vec<_> = (0..20).map(|n| Running::start(world.ssh(&["worker", &format!("echo {n}")]))).collect();
    for (n, ssh) in all.into_iter().enumerate() {
        assert_eq!(ssh.end().ok(), format!("{n}\n"));
    }
    until_alone(&world);
}

#[test]
fn a_hundred_megabytes_each_way_arrive() {
    need!("ssh", "sshd", "sha256sum");
    let world = by_command("SSHD", "");
    let (there, back) = both_ways(&world, "worker", MANY);
    let expected = checksum(&world, MANY);
    assert_eq!((there, back), (expected.clone(), expected));
    until_alone(&world);
}

#[test]
fn a_flood_on_its_stderr_holds_up_nothing() {
    need!("ssh", "sshd", "sha256sum");
    // Before the banner, and all the time after it.
    let world =
        by_command("sh -c 'seq 1000000 >&2; seq 20000000 >&2 & exec SSHD'", "connect_timeout = \"9s\"");
    let (there, back) = both_ways(&world, "worker", FEW);
    let expected = checksum(&world, FEW);
    assert_eq!((there, back), (expected.clone(), expected));
    until_alone(&world);
}

#[test]
fn why_tells_what_a_failed_command_said() {
    need!("ssh", "sshd");
    let world = by_command("sh -c 'echo target %n is not connected >&2; exit 254'", "");
    let said = run(world.ssh(&["worker", "true"]));
    let sentence = "the command of upstream lab ended with exit status 254 before worker:22 answered: \
                    target worker is not connected";
    assert!(said.unreachable().contains(sentence), "{}", said.stderr);
    let why = world.why("worker").text();
    assert!(why.contains(sentence) && why.contains("try: sh -c 'echo target worker"), "{why}");
    let upstream = world.upstream();
    assert_eq!((upstream.dials_failed, upstream.streams_total), (1, 0));
    assert!(upstream.last_error.is_some_and(|error| error.message == sentence));
    until_alone(&world);

    set_command(&world, "no-such-program %h", "");
    run(world.natssh(&["broker", "reload"])).ok();
    let said = run(world.ssh(&["worker", "true"]));
    assert!(said.unreachable().contains("exit status 127"), "{}", said.stderr);
    assert!(said.stderr.contains("no-such-program"), "{}", said.stderr);
}

#[test]
fn a_command_that_says_nothing_is_timed_out_and_ended() {
    need!("ssh", "sshd");
    let world =
        by_command("sh -c 'echo waiting for the tunnel >&2; sleep 600 & wait'", "connect_timeout = \"2s\"");
    let ssh = Running::start(world.ssh(&["worker", "true"]));
    // The shell and what it waits for.
    let started = started(&world, 2);
    let said = ssh.end();
    let sentence =
        "the command of upstream lab ran, and nothing came from worker:22 in time: waiting for the tunnel";
    assert!(said.unreachable().contains(sentence), "{}", said.stderr);
    assert!(said.took < Duration::from_secs(6), "{:?}", said.took);
    until_ended(&started);
}

#[test]
fn who_finds_no_place_is_told_how_many_were_before() {
    let world = by_command("sleep 600", "handshakes = 1");
    let ask = |node| Running::start(world.natssh(&["proxy", node, "22", "--connect-timeout", "2"]));
    let first = ask("worker");
    started(&world, 1);
    let second = ask("control-plane").end();
    let sentence =
        "the command of upstream lab is busy: 1 were starting all the time that control-plane:22 waited";
    assert!(second.unreachable().contains(sentence), "{}", second.stderr);
    assert!(first.end().unreachable().contains("nothing came from worker:22 in time"));
    until_alone(&world);
}

#[test]
fn a_killed_command_cuts_its_stream_and_no_other() {
    need!("ssh", "sshd");
    let world = by_command("SSHD", "");
    let other = Running::interactive(world.ssh(&["control-plane", "echo open; cat"]));
    other.until_said("open");
    let before = world.started_by_broker();
    let ssh = Running::interactive(world.ssh(&["worker", "echo open; cat"]));
    ssh.until_said("open");
    for process in world.started_by_broker() {
        if !before.contains(&process) {
            let _ = kill_process(Pid::from_raw(process.pid.cast_signed()).expect("a process"), Signal::KILL);
        }
    }
    ssh.stay().unreachable();
    let why =
        until("the cut is told", || Some(world.why("worker").text()).filter(|why| why.contains("was cut")));
    assert!(why.contains("its command was ended by signal 9"), "{why}");
    assert_eq!(world.until_upstream("it is counted", |upstream| upstream.streams == 1).streams_cut, 1);
    other.end().ok();
    until_alone(&world);
}

#[test]
fn a_broker_that_stops_leaves_no_command_behind() {
    need!("ssh", "sshd");
    let world = by_command("SSHD", "");
    let ssh = Running::interactive(world.ssh(&["worker", "echo open; cat"]));
    ssh.until_said("open");
    let started = started(&world, 1);
    // Without the minute that open streams have when it drains.
    door::ask(&world.socket(), "POST", "/v1/stop").unwrap();
    until_ended(&started);
    ssh.stay().unreachable();
}

#[test]
fn half_a_stream_may_end_before_the_other() {
    let world = by_command("sh -c 'echo hello; cat; echo the end'", "");
    let mut client = door::connect(&world.socket(), "worker:22");
    client.write_all(b"last words\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello\nlast words\nthe end\n");
    drop(client);
    until_alone(&world);

    let told = world.path().join("told");
    set_command(&world, &format!("sh -c 'echo bye; exec >&-; cat > {}'", told.display()), "");
    run(world.natssh(&["broker", "reload"])).ok();
    let mut client = door::connect(&world.socket(), "worker:22");
    heard.clear();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bye\n");
    client.write_all(b"still here").unwrap();
    drop(client);
    until("all of it was read", || (std::fs::read(&told).ok()? == b"still here").then_some(()));
    until_alone(&world);
}

#[test]
fn a_login_that_nobody_told_is_asked_for() {
    let world = by_command("nc %r %h %p", "");
    let said = run(world.natssh(&["proxy", "worker", "22"]));
    let sentence = "its %r needs the login, which the caller did not tell";
    assert!(said.unreachable().contains(sentence), "{}", said.stderr);
    assert!(said.stderr.contains("--login %r"), "{}", said.stderr);
}

#[test]
fn a_command_that_asks_natssh_for_the_way_goes_in_no_circle() {
    let world = by_command("sh -c 'natssh proxy %h %p'", "connect_timeout = \"3s\"");
    let said = run(world.natssh(&["proxy", "worker", "22", "--fdpass", "no"]));
    let sentence = "the command of upstream lab asks natssh for worker:22, which is reached by that command";
    assert!(said.unreachable().contains(sentence), "{}", said.stderr);
    assert!(said.took < Duration::from_secs(2), "{:?}", said.took);
    until_alone(&world);
    assert_eq!(world.upstream().dials_failed, 1);

    set_command(&world, "natssh proxy %h %p", "");
    let said = run(world.natssh(&["config", "check"]));
    assert_eq!(said.code, Some(1));
    let complaint = said.stderr + &String::from_utf8_lossy(&said.stdout);
    assert!(complaint.contains("natssh.toml:5: [upstream.lab]: command runs natssh proxy"), "{complaint}");
}
