//! `-W` and `-N`: a session that runs nothing, as a jump for others or for its own sake.

use natssh_tests::{Running, Server, need, run, until};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread::JoinHandle;

/// Somebody who listens for one connection, and the address.
fn listen<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, std::thread::spawn(move || serve(listener.accept().unwrap().0)))
}

#[test]
fn a_jump_is_authenticated_once_for_all_that_pass() {
    need!("ssh", "sshd");
    let server = Server::start("");
    // The same server behind itself: a hop and a node.
    let jump = format!("-oProxyCommand=natssh ssh -F {} -W %h:%p server", server.config());
    for n in 1..=3 {
        let mut ssh = server.world.command("ssh");
        ssh.args(["-F", &server.config(), &jump, "server", &format!("echo {n}")]);
        assert_eq!(run(ssh).ok(), format!("{n}\n"));
        assert_eq!(server.accepted(), 1 + n, "the hop's own, and one for each ssh behind it");
    }
    let mut dash_j = server.natssh(&["-W", &server.sshd.address().to_string(), "server"]);
    let mut words = dash_j.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut banner = String::new();
    words.stdout.take().unwrap().read_to_string(&mut banner).unwrap();
    assert!(banner.starts_with("SSH-2.0-OpenSSH"), "{banner}");
    assert_eq!(words.wait().unwrap().code(), Some(0));
}

#[test]
fn each_direction_ends_by_itself() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let (address, counted) = listen(|mut socket| {
        let mut bytes = Vec::new();
        let count = socket.read_to_end(&mut bytes).unwrap();
        socket.write_all(format!("{count} bytes\n").as_bytes()).unwrap();
    });
    let mut natssh = Running::interactive(server.natssh(&["-W", &address, "server"]));
    natssh.write(&vec![b'x'; 300_000]);
    assert_eq!(natssh.end().ok(), "300000 bytes\n");
    counted.join().unwrap();

    let (address, heard) = listen(|mut socket| {
        socket.write_all(b"goodbye").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        rest
    });
    let mut natssh = server.natssh(&["-W", &address, "server"]);
    let mut natssh = natssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    natssh.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "goodbye", "its end is seen while the other direction is open");
    natssh.stdin.take().unwrap().write_all(b"wait").unwrap();
    assert_eq!((heard.join().unwrap().as_str(), natssh.wait().unwrap().code()), ("wait", Some(0)));
}

#[test]
fn a_port_that_cannot_be_reached_is_told_with_the_servers_reason() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    run(server.natssh(&["server", "true"])).ok();
    let said = run(server.natssh(&["-W", &free, "server"]));
    let login = server.world.login();
    let sentence =
        format!("natssh: stdio forwarding failed: {login}@127.0.0.1 could not connect to {free}: ");
    assert!(said.unreachable().starts_with(&sentence), "{}", said.stderr);
    assert_eq!(server.world.failures("127.0.0.1").len(), 1);
    // The session is none the worse for it.
    assert_eq!(run(server.natssh(&["server", "echo here"])).ok(), "here\n");
    assert_eq!(server.accepted(), 1);
    let said = run(server.natssh(&["-W", "nowhere", "server"]));
    assert_eq!(said.unreachable(), "Bad stdio forwarding specification 'nowhere'\n", "ssh's own words");

    let strict = Server::start("AllowTcpForwarding no");
    let said = run(strict.natssh(&["-W", &free, "server"]));
    assert!(
        said.unreachable().contains(" does not forward to ") && said.stderr.contains("AllowTcpForwarding")
    );
}

#[test]
fn max_sessions_does_not_count_what_runs_nothing() {
    need!("ssh", "sshd");
    let server = Server::start("MaxSessions 1");
    let (address, echoed) = listen(|mut socket| {
        let mut back = socket.try_clone().unwrap();
        std::io::copy(&mut socket, &mut back).unwrap()
    });
    let mut forward = Running::interactive(server.natssh(&["-W", &address, "server"]));
    forward.write(b"one ");
    forward.until_said("one ");
    let kept = Running::start(server.natssh(&["-N", "server"]));
    server.world.until_status("it is kept", |status| status.sessions[0].channels == 2);
    for n in 0..3 {
        assert_eq!(run(server.natssh(&["server", &format!("echo {n}")])).ok(), format!("{n}\n"));
    }
    assert_eq!(server.accepted(), 1, "one session carries all of that");
    forward.write(b"two");
    forward.close_stdin();
    assert_eq!(forward.end().ok(), "one two");
    assert_eq!(echoed.join().unwrap(), 7);
    drop(kept);
    server.world.until_status("nobody uses it", |status| status.sessions[0].channels == 0);
}

#[test]
fn what_runs_nothing_stays_until_it_is_killed_or_the_session_is_lost() {
    need!("ssh", "sshd");
    let mut server = Server::start("");
    let log = server.world.path().join("said");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let kept = Running::start(server.natssh(&["-vNE", log.to_str().unwrap(), "server"]));
    until("it is kept", || said().contains("is kept").then_some(()));
    kept.signal(Signal::TERM);
    assert_eq!(kept.stay().unreachable(), "");
    assert_eq!(said().lines().last(), Some("Killed by signal 15."));
    assert_eq!((server.world.status().sessions.len(), server.accepted()), (1, 1), "the session stays");

    let by_settings = Running::start(server.natssh(&["-oSessionType=none", "server"]));
    server.world.until_status("it is kept", |status| status.sessions.iter().any(|one| one.channels == 1));
    server.sshd.kill();
    let said = by_settings.end();
    assert!(said.unreachable().contains("the session to "), "{}", said.stderr);
    server.sshd.start_again();
    assert_eq!(run(server.natssh(&["server", "echo here"])).ok(), "here\n");
}

#[test]
fn input_that_is_not_wanted_is_left_for_others() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let file = server.world.path().join("input");
    fs::write(&file, "for the next one\n").unwrap();
    for options in ["-n", "-oStdinNull=yes"] {
        let mut shell = server.world.command("sh");
        let natssh = format!("natssh ssh -F {} {options} server", server.config());
        shell.args(["-c", &format!("{{ {natssh} 'cat; echo ended'; cat; }} <{}", file.display())]);
        assert_eq!(run(shell).ok(), "ended\nfor the next one\n", "{options}");
    }
    let script = format!(
        "exec 3<{file}; natssh ssh -F {config} -vN server <&3 2>{log} & \
         until grep -q 'is kept' {log}; do sleep 0.05; done; kill $!; wait $!; cat <&3",
        file = file.display(),
        config = server.config(),
        log = server.world.path().join("said").display(),
    );
    let mut shell = server.world.command("sh");
    shell.args(["-c", &script]);
    assert_eq!(run(shell).ok(), "for the next one\n");
}
