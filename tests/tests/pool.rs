//! Commands on sessions that the broker keeps: few authentications, no limit of sshd's ever met, and no session
//! that is worse than none.

use natssh_tests::server::ACCEPTED;
use natssh_tests::wait::within;
use natssh_tests::{Plan, Running, Said, Server, Sshd, World, need, run, until};
use natssh_wire::status::{Session, SessionState};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// What sshd writes, at the level VERBOSE, for each authentication that failed.
const REFUSED: &str = "Failed publickey";

/// A broker that reaches a listening sshd directly. These lines are for sshd's configuration.
fn ground(lines: &str) -> (World, Sshd) {
    let Server { world, sshd } = Server::start(lines);
    (world, sshd)
}

/// `natssh server COMMAND`, with these options before.
fn natssh(world: &World, options: &[&str], command: &str) -> Command {
    let config = world.path().join("config");
    let config = config.to_str().expect("a plain path");
    world.natssh(&[&["ssh", "-F", config], options, &["server", command]].concat())
}

fn command(world: &World, words: &str) -> Said {
    run(natssh(world, &[], words))
}

fn sessions(world: &World) -> Vec<Session> {
    world.status().sessions
}

/// So many commands at once, each of which has to say its number.
fn at_once(world: &World, commands: usize, words: &str) {
    let all: Vec<_> = (0..commands)
        .map(|n| (n, Running::start(natssh(world, &[], &format!("{words}; echo {n}")))))
        .collect();
    for (n, one) in all {
        assert_eq!(one.end().ok().trim(), n.to_string());
    }
}

#[test]
fn the_second_command_reuses_the_session() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("");
    for n in 0..5 {
        assert_eq!(command(&world, &format!("echo {n}")).ok(), format!("{n}\n"));
    }
    assert_eq!(sshd.log_lines(ACCEPTED), 1);
    let status = world.until_status("the last command is over", |status| status.sessions[0].channels == 0);
    let [session] = &status.sessions[..] else { panic!("{status:#?}") };
    assert_eq!((session.state, session.channels, session.channels_total), (SessionState::Open, 0, 5));
    assert_eq!(
        (session.node.as_str(), session.upstream.as_deref()),
        (&*sshd.address().to_string(), Some("direct"))
    );
    let screen = run(world.natssh(&["status"])).text();
    assert!(screen.contains(&format!("{}@{}", world.login(), sshd.address())), "{screen}");
}

#[test]
fn fifty_at_once_on_a_cold_node_fail_at_no_limit_of_its_sshd() {
    need!("sshd", "ssh");
    for max_sessions in [1, 2, 10] {
        let (world, sshd) = ground(&format!("MaxSessions {max_sessions}"));
        at_once(&world, 50, "sleep 0.2");
        at_once(&world, 50, "true");
        let opened = sshd.log_lines(ACCEPTED);
        assert!(opened <= 100 / max_sessions + 2, "{opened} authentications with MaxSessions {max_sessions}");
        world.until_status("all places are given back", |status| {
            status.sessions.iter().all(|session| session.channels == 0 && session.waiting == 0)
        });
    }
}

#[test]
fn an_sshd_that_restarts_between_two_commands_is_not_noticed() {
    need!("sshd", "ssh");
    let (world, mut sshd) = ground("");
    command(&world, "true").ok();
    sshd.kill();
    sshd.start_again();
    until("the broker knows of the end", || sessions(&world).is_empty().then_some(()));
    command(&world, "true").ok();
    assert_eq!(sessions(&world).len(), 1);
}

#[test]
fn an_sshd_that_dies_is_told_with_its_reason_and_the_next_command_works() {
    need!("sshd", "ssh");
    let (world, mut sshd) = ground("");
    command(&world, "true").ok();
    let running = Running::start(natssh(&world, &[], "sleep 60"));
    world.until_status("it runs", |status| status.sessions.iter().any(|session| session.channels == 1));
    let begun = Instant::now();
    sshd.kill();
    let said = running.end();
    assert!(
        said.unreachable().contains("127.0.0.1") && begun.elapsed() < Duration::from_secs(10),
        "{said:?}"
    );
    let said = command(&world, "true");
    assert!(said.unreachable().contains("refused"), "{said:?}");
    sshd.start_again();
    command(&world, "true").ok();
    assert!(
        world.why("127.0.0.1").text().contains("ended with 1 command running"),
        "{}",
        world.why("127.0.0.1").text()
    );
}

#[test]
fn a_frozen_sshd_answers_255_within_the_bound_and_the_next_command_works() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("");
    let short = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=4"];
    run(natssh(&world, &short, "true")).ok();
    sshd.freeze();
    let begun = Instant::now();
    let said = run(natssh(&world, &short, "true"));
    assert!(said.unreachable().contains("no answer for"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let said = run(natssh(&world, &short, "true"));
    assert!(said.unreachable().contains("did not answer"), "{said:?}");
    sshd.thaw();
    run(natssh(&world, &short, "true")).ok();
}

#[test]
fn closing_sessions_authenticates_afresh_and_lets_running_commands_finish() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("");
    let running = Running::start(natssh(&world, &[], "sleep 2; echo done"));
    world.until_status("it runs", |status| status.sessions.iter().any(|session| session.channels == 1));
    let closed = run(world.natssh(&["sessions", "close", "server"]));
    assert_eq!(closed.ok(), "1 session to server closed\n");
    command(&world, "true").ok();
    assert_eq!(sshd.log_lines(ACCEPTED), 2);
    assert_eq!(running.end().ok(), "done\n");
    until("the old one is gone", || (sessions(&world).len() == 1).then_some(()));
    assert_eq!(run(world.natssh(&["sessions", "close", "--all"])).ok(), "1 session closed\n");
    assert!(sessions(&world).is_empty());
    assert_eq!(run(world.natssh(&["sessions", "close", "server"])).ok(), "no session to server was open\n");
    command(&world, "true").ok();
    assert_eq!(sshd.log_lines(ACCEPTED), 3);
}

#[test]
fn an_unused_session_closes_after_the_users_control_persist() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("");
    let keep = ["-o", "ControlMaster=auto", "-o", "ControlPersist=2", "-o", "ControlPath=none"];
    run(natssh(&world, &keep, "true")).ok();
    assert_eq!(sessions(&world).len(), 1);
    until("it closes", || sessions(&world).is_empty().then_some(()));
    until("sshd has heard", || (sshd.log_lines("Received disconnect") == 1).then_some(()));
}

#[test]
fn a_refusal_is_asked_for_once_and_a_person_who_mends_it_is_believed() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("PasswordAuthentication no\nKbdInteractiveAuthentication no");
    let key = world.credentials.openssh_key();
    let elsewhere = world.path().join("aside");
    let certificate = key.with_file_name(format!("{}-cert.pub", key.file_name().unwrap().to_str().unwrap()));
    fs::rename(&certificate, &elsewhere).expect("our own file");
    let refused: Vec<_> = (0..20).map(|_| Running::start(natssh(&world, &[], "true"))).collect();
    for one in refused {
        one.end().unreachable();
    }
    // One, unless half a minute has passed.
    assert!(sshd.log_lines(REFUSED) <= 2, "{} attempts", sshd.log_lines(REFUSED));
    assert_eq!(sessions(&world)[0].state, SessionState::Refused);
    fs::rename(&elsewhere, &certificate).expect("our own file");
    command(&world, "true").ok();
}

#[test]
fn twenty_nodes_and_many_commands_cost_one_authentication_each() {
    need!("sshd", "ssh");
    assert_eq!(twenty_nodes(20, 20), 20);
}

#[test]
#[ignore = "four thousand commands: make test-long"]
fn twenty_nodes_two_hundred_commands_each_and_fifty_at_once() {
    need!("sshd", "ssh");
    twenty_nodes(50, 80);
}

/// So many callers at once, each with so many commands in a row on twenty nodes. No command fails, and each
/// session has cost one authentication; says how many sessions there are.
fn twenty_nodes(callers: usize, commands: usize) -> usize {
    let world = Plan::new().nodes(20).start();
    let config = world.ssh_config_path();
    let config = config.to_str().expect("a plain path");
    let nodes: Vec<String> = (0..20)
        .map(|n| match n {
            0 => "control-plane".into(),
            1 => "worker".into(),
            n => format!("worker-{n}"),
        })
        .collect();
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let (world, nodes) = (&world, &nodes);
            scope.spawn(move || {
                for n in 0..commands {
                    let node = &nodes[(caller + n) % nodes.len()];
                    let said = run(world.natssh(&["ssh", "-F", config, node, &format!("echo {n}")]));
                    assert_eq!(said.ok(), format!("{n}\n"));
                }
            });
        }
    });
    let sessions = sessions(&world);
    assert_eq!(
        sessions.iter().map(|session| session.channels_total).sum::<u64>(),
        (callers * commands) as u64
    );
    let metrics =
        natssh_tests::door::ask(&world.socket(), "GET", "/metrics").expect("the broker answers").body;
    let authenticated = format!("natssh_session_open_seconds_count {}\n", sessions.len());
    assert!(metrics.contains(&authenticated), "{metrics}");
    sessions.len()
}

#[test]
fn a_broker_that_drains_lets_commands_finish() {
    need!("sshd", "ssh");
    let (world, _sshd) = ground("");
    let running = Running::start(natssh(&world, &[], "sleep 2; echo done"));
    world.until_status("it runs", |status| status.sessions.iter().any(|session| session.channels == 1));
    let stop = Running::start(world.natssh(&["broker", "stop"]));
    assert_eq!(running.end().ok(), "done\n");
    stop.end().ok();
    assert!(within(Duration::from_secs(5), || world.broker_pid().is_none().then_some(())).is_some());
}

#[test]
fn a_reload_keeps_sessions_and_a_change_of_the_way_does_not() {
    need!("sshd", "ssh");
    let (world, sshd) = ground("");
    command(&world, "true").ok();
    run(world.natssh(&["broker", "reload"])).ok();
    command(&world, "true").ok();
    assert_eq!(sshd.log_lines(ACCEPTED), 1);
    world.write_config("[upstream.direct]\nkind = \"direct\"\nconnect_timeout = \"3s\"\n[[route]]\nhosts = [\"127.0.0.1\"]\nupstream = \"direct\"\n");
    run(world.natssh(&["broker", "reload"])).ok();
    command(&world, "true").ok();
    assert_eq!((sshd.log_lines(ACCEPTED), sessions(&world).len()), (2, 1));
}
