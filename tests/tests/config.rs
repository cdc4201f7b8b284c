//! The configuration: complaints come all at once and at once, a reload changes what was
//! changed and nothing else, and hosts go where the routes say.

use natssh_lab::control::Status as LabStatus;
use natssh_tests::door::connect;
use natssh_tests::{Plan, World, run, until};
use natssh_wire::status::TrunkState;
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Four mistakes, on four lines.
const WRONG: &str = "defualt = \"lab\"
[upstream.lab]
kind = \"teleport\"
proxy = \"https://teleport.example.com\"
streams_per_trunk = 0
[[route]]
hosts = [\"*\"]
upstream = \"lap\"
";

#[test]
fn a_wrong_file_is_told_at_once_with_file_and_line() {
    let world = Plan::new().without_broker().start();
    world.write_config(WRONG);
    let said = run(world.ssh(&["worker", "true"]));
    let line =
        format!("{}:1: unknown key \"defualt\"; did you mean \"default\"?", world.config_path().display());
    assert!(said.unreachable().contains(&line), "{said:?}");
    assert!(said.took < Duration::from_secs(2), "{said:?}");

    // Nothing runs that could be asked, and what would be started says the same.
    let why = world.why("worker");
    assert_eq!(why.code, Some(3), "{why:?}");
    assert!(why.stderr.contains(&line), "{why:?}");

    world.write_config(&usual(&world));
    run(world.ssh(&["worker", "true"])).ok();
}

#[test]
fn check_says_everything_that_is_wrong_and_show_what_is_in_force() {
    let world = Plan::new().without_broker().start();
    run(world.natssh(&["config", "check"])).ok();
    assert!(run(world.natssh(&["config", "show"])).ok().contains("connect_timeout = \"5s\""));

    world.write_config(WRONG);
    let said = run(world.natssh(&["config", "check"]));
    assert_eq!(said.code, Some(1), "{said:?}");
    let path = world.config_path();
    for line in [1, 4, 5, 8] {
        let place = format!("{}:{line}: ", path.display());
        assert_eq!(said.stderr.matches(&place).count(), 1, "{place} in {}", said.stderr);
    }
    assert_eq!(
        said.stderr.lines().filter(|line| line.contains("natssh.toml:")).count(),
        4,
        "{}",
        said.stderr
    );

    fs::remove_file(&path).expect("ours");
    let said = run(world.natssh(&["config", "check"]));
    assert!(said.code == Some(1) && said.stderr.contains("NATSSH_CONFIG names this file"), "{said:?}");
}

#[test]
fn a_reload_of_a_wrong_file_changes_nothing_and_is_complained_of_everywhere() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    world.write_config(WRONG);

    let said = run(world.natssh(&["broker", "reload"]));
    let line = format!("{}:1: unknown key \"defualt\"", world.config_path().display());
    assert!(said.code == Some(1) && said.stderr.contains(&line), "{said:?}");
    assert!(world.why("worker").text().contains(&line), "why");
    assert!(run(world.natssh(&["status"])).text().contains(&line), "status");
    assert_eq!(world.log_lines("the old one stays in force"), 1);

    run(world.ssh(&["worker", "true"])).ok();
    assert_eq!(world.upstream().dials_ok, 1, "not even the trunk was dialled again");

    world.write_config(&usual(&world));
    assert_eq!(run(world.natssh(&["broker", "reload"])).ok(), "reloaded\n");
    run(world.ssh(&["worker", "true"])).ok();
}

#[test]
fn sighup_reloads() {
    let world = Plan::new().start();
    world.write_config(&usual(&world).replace("default = \"lab\"", ""));
    kill_process(world.broker_pid().expect("it runs"), Signal::HUP).expect("ours");
    until("it is reloaded", || (world.log_lines("configuration reloaded") == 1).then_some(()));
    let said = run(world.natssh(&["proxy", "worker", "22"]));
    assert!(said.unreachable().contains("worker:22 cannot be reached"), "nothing leads to the lab: {said:?}");
    assert_eq!(world.failures("worker")[0].upstream.as_deref(), Some("direct"));
}

#[test]
fn what_a_reload_does_not_change_goes_on_and_what_it_changes_drains() {
    let world = Plan::new().start();
    let mut stream = node_stream(&world);
    let before = world.upstream().trunks;

    world.write_config(&format!(
        "{}\n[[route]]\nhosts = [\"*.example.com\"]\nupstream = \"direct\"\n",
        usual(&world)
    ));
    run(world.natssh(&["broker", "reload"])).ok();
    run(world.ssh(&["control-plane", "true"])).ok();
    let upstream = world.upstream();
    assert_eq!((upstream.trunks.len(), upstream.dials_ok), (1, 1), "a route is no reason to dial again");
    assert_eq!(upstream.trunks[0].id, before[0].id);

    let connections = || established(&world.lab.status().expect("the lab answers"));
    assert_eq!(connections(), 1);
    world.write_config(&usual(&world).replace("kind =", "keepalive = \"20s\"\nkind ="));
    run(world.natssh(&["broker", "reload"])).ok();
    run(world.ssh(&["control-plane", "true"])).ok();
    assert_eq!(connections(), 2, "the changed upstream has a trunk of its own");
    assert_eq!(world.upstream().trunks[0].state, TrunkState::Open);
    speaks(&mut stream);
    drop(stream);
    until("the old trunk closes with its last stream", || (connections() == 1).then_some(()));
}

#[test]
fn hosts_go_where_the_first_fitting_route_says_under_the_name_it_says() {
    let world = Plan::new()
        .config(
            "[[route]]\nhosts = [\"*.prod.example.net\", \"!db.prod.example.net\"]\nupstream = \"lab\"\n\
             strip_suffix = \".prod.example.net\"\nmap = { api = \"control-plane\" }\n\
             [[route]]\nhosts = [\"api\", \"worker.prod.example.net\"]\nupstream = \"lab\"\nmap = { api = \"worker\" }\n\
             [[route]]\nhosts = [\"*.example.net\"]\nupstream = \"direct\"\n",
        )
        .start();
    for (host, node) in [
        ("worker", "worker"),
        ("worker.prod.example.net", "worker"),
        ("api.prod.example.net", "control-plane"),
        ("api", "worker"),
        ("worker.lab", "worker"),
    ] {
        // The node proves its name to ssh.
        run(world.ssh(&["-o", &format!("HostKeyAlias={node}"), host, "true"])).ok();
    }
    // ssh writes %h in lower case, but scripts ask too; and case matters to Teleport.
    let said = run(world.natssh(&["proxy", "WORKER.PROD.example.net", "22"]));
    assert!(said.unreachable().contains("node WORKER"), "{said:?}");
    for host in ["db.prod.example.net", "www.example.net"] {
        run(world.natssh(&["proxy", host, "22", "--connect-timeout", "1"])).unreachable();
        assert_eq!(world.failures(host)[0].upstream.as_deref(), Some("direct"), "{host}");
    }
}

#[test]
fn who_has_run_tsh_login_needs_no_file() {
    let world = Plan::new().without_broker().start();
    fs::remove_file(world.config_path()).expect("ours");
    let without = |mut command: std::process::Command| {
        command.env_remove("NATSSH_CONFIG");
        run(command)
    };
    // The cluster is called `lab`: what ends in it goes there, and the rest directly.
    without(world.ssh(&["-o", "HostKeyAlias=worker", "worker.lab", "true"])).ok();
    let said = without(world.natssh(&["proxy", "worker", "22"]));
    assert!(said.unreachable().contains("worker:22 cannot be reached"), "{said:?}");
    assert_eq!(world.failures("worker")[0].upstream.as_deref(), Some("direct"));
    assert_eq!(world.status().config, None);
}

/// The configuration of a usual plan.
fn usual(world: &World) -> String {
    let LabStatus { proxy, .. } = world.lab.status().expect("the lab answers");
    format!(
        "default = \"lab\"\n[upstream.lab]\nkind = \"teleport\"\nproxy = \"{proxy}\"\nidentity = \"me\"\n\
         [identity.me]\ntsh = true\n"
    )
}

/// How many clients' connections the proxy has, by the kernel's own table.
fn established(lab: &LabStatus) -> usize {
    let port = format!(":{:04X}", lab.proxy.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.len() > 3 && f[1].ends_with(&port) && f[3] == "01").count()
}

/// A raw stream to a node, whose sshd has said its first line.
fn node_stream(world: &World) -> UnixStream {
    let mut stream = connect(&world.socket(), "worker:22");
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).expect("sshd speaks first");
    assert_eq!(&banner, b"SSH-2.0-");
    stream
}

/// The node's sshd goes on with the handshake.
#[track_caller]
fn speaks(stream: &mut UnixStream) {
    stream.write_all(b"SSH-2.0-test\r\n").expect("the stream takes bytes");
    let mut more = [0; 600];
    stream.read_exact(&mut more).expect("the rest of its line, and its key exchange");
}
