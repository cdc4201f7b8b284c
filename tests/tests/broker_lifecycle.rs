//! The broker comes when it is needed, once, free of whoever needed it, and goes without
//! tearing what is open.

use natssh_tests::door::connect;
use natssh_tests::wait::within;
use natssh_tests::{Plan, Running, need, programs, run, until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write, pipe};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn fifty_shims_that_race_start_one_broker_and_all_are_served() {
    let world = Plan::new().without_broker().start();
    let echo = echo_server();
    let racing: Vec<_> = (0..50)
        .map(|n| {
            let mut shim = Running::interactive(world.natssh(&["proxy", "127.0.0.1", &echo]));
            shim.write(format!("number {n}").as_bytes());
            shim.close_stdin();
            shim
        })
        .collect();
    for (n, shim) in racing.into_iter().enumerate() {
        assert_eq!(shim.end().ok(), format!("number {n}"));
    }
    assert_eq!(world.log_lines("broker started"), 1, "{}", world.log());
}

#[test]
fn a_socket_left_by_a_killed_broker_is_recovered() {
    let world = Plan::new().without_broker().start();
    run(world.ssh(&["worker", "true"])).ok();
    let killed = world.broker_pid().expect("the shim has started it");
    kill_process(killed, Signal::KILL).expect("ours to kill");
    gone(killed);
    assert!(world.socket().exists(), "it could tidy up after all");
    run(world.ssh(&["worker", "true"])).ok();
    assert_ne!(world.broker_pid(), Some(killed));
}

#[test]
fn a_detached_broker_holds_nothing_of_its_starter() {
    let world = Plan::new().without_broker().start();
    // Ansible waits like this for the end of a pipe that any descendant may hold.
    let (mut reader, writer) = pipe().expect("a pipe");
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("it is inherited");
    let mut start = world.natssh(&["broker", "start"]);
    start.env("ANSIBLE_BECOME_PASS", "secret").env("LD_DEBUG_OUTPUT", "/nowhere").env("LC_ALL", "C");
    run(start).ok();
    drop(writer);
    assert_eq!(reader.read(&mut [0]).expect("a pipe can be read"), 0);

    let pid = world.broker_pid().expect("it runs");
    let proc = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
    assert_eq!(rustix::process::getsid(Some(pid)), Ok(pid), "a session of its own");
    assert_eq!(fs::read_link(proc("cwd")).expect("ours"), std::path::Path::new("/"));
    for stdio in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(fs::read_link(proc(stdio)).expect("ours"), std::path::Path::new("/dev/null"), "{stdio}");
    }
    let limits = fs::read_to_string(proc("limits")).expect("ours");
    let cores: Vec<_> = limits
        .lines()
        .find(|line| line.starts_with("Max core"))
        .expect("a limit")
        .split_whitespace()
        .collect();
    assert_eq!(cores[4..6], ["0", "0"], "no core dumps: keys are in memory");

    let environment = fs::read_to_string(proc("environ")).expect("ours");
    let names: BTreeSet<_> =
        environment.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    for kept in ["HOME", "NATSSH_CONFIG", "LC_ALL", "GLIBC_TUNABLES"] {
        assert!(names.contains(kept), "{kept} in {names:?}");
    }
    assert!(names.iter().all(|name| !["ANSIBLE_BECOME_PASS", "LD_DEBUG_OUTPUT"].contains(name)), "{names:?}");
}

#[test]
fn sigterm_lets_open_streams_go_on_while_the_next_broker_serves() {
    let world = Plan::new().start();
    let mut stream = connect(&world.socket(), &format!("127.0.0.1:{}", echo_server()));
    echoes(&mut stream, "before");
    let first = world.broker_pid().expect("it runs");
    kill_process(first, Signal::TERM).expect("ours");

    let socket = world.socket();
    until("the socket's name is free", || (!socket.exists()).then_some(()));
    run(world.ssh(&["worker", "true"])).ok();
    let second = world.broker_pid().expect("the shim has started it");
    assert_ne!(first, second);
    echoes(&mut stream, "during");

    drop(stream);
    gone(first);
    assert!(
        socket.exists() && world.broker_pid() == Some(second),
        "the first has taken the second's socket along"
    );
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let world = Plan::new().start();
    let mut stream = connect(&world.socket(), &format!("127.0.0.1:{}", echo_server()));
    echoes(&mut stream, "before");
    let pid = world.broker_pid().expect("it runs");
    kill_process(pid, Signal::TERM).expect("ours");
    until("the socket's name is free", || (!world.socket().exists()).then_some(()));
    assert!(test_kill_process(pid).is_ok(), "it has not waited for its stream");
    kill_process(pid, Signal::TERM).expect("ours");
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the stream ends with the broker");
    gone(pid);
}

#[test]
fn start_stop_and_restart_do_what_they_say() {
    let world = Plan::new().without_broker().start();
    let broker = |word| run(world.natssh(&["broker", word]));
    assert_eq!(broker("stop").code, Some(3), "none runs");
    assert_eq!(broker("reload").code, Some(3), "none runs");

    let started = broker("start").ok();
    let first = world.broker_pid().expect("it runs");
    assert_eq!(started, format!("started, pid {}\n", first.as_raw_nonzero()));
    assert_eq!(broker("start").ok(), format!("runs already, pid {}\n", first.as_raw_nonzero()));
    assert_eq!(broker("reload").ok(), "reloaded\n");

    let restarted = broker("restart").ok();
    let second = world.broker_pid().expect("it runs");
    assert_eq!(restarted, format!("started, pid {}\n", second.as_raw_nonzero()));
    assert_ne!(first, second);
    gone(first);

    assert_eq!(broker("stop").ok(), "stopped\n");
    assert!(has_ended(second), "stop waits for the end");
    assert!(!world.socket().exists());
    assert!(broker("logs").ok().contains("broker stopped"));
}

#[test]
fn stop_gives_open_streams_a_moment_to_end() {
    let world = Plan::new().start();
    let mut stream = connect(&world.socket(), &format!("127.0.0.1:{}", echo_server()));
    let stop = Running::start(world.natssh(&["broker", "stop"]));
    until("it takes no new streams", || (!world.socket().exists()).then_some(()));
    echoes(&mut stream, "it goes on");
    drop(stream);
    assert_eq!(stop.end().ok(), "stopped\n");
}

#[test]
fn restart_waits_for_no_stream() {
    let world = Plan::new().start();
    let first = world.broker_pid().expect("it runs");
    let mut stream = connect(&world.socket(), &format!("127.0.0.1:{}", echo_server()));
    let said = run(world.natssh(&["broker", "restart"]));
    let second = world.broker_pid().expect("it runs");
    assert_eq!(said.ok(), format!("started, pid {}\n", second.as_raw_nonzero()));
    assert_ne!(first, second);
    echoes(&mut stream, "it goes on");
    drop(stream);
    gone(first);
}

#[test]
fn a_broker_whose_socket_is_gone_leaves() {
    let world = Plan::new().without_broker().start();
    run(world.natssh(&["broker", "start"])).ok();
    let pid = world.broker_pid().expect("it runs");
    fs::remove_file(world.socket()).expect("ours");
    gone(pid);
    assert_eq!(world.log_lines("the socket is gone"), 1);
}

#[test]
fn the_second_of_two_brokers_leaves() {
    let world = Plan::new().start();
    let pid = world.broker_pid().expect("it runs");
    let broker = |words: &[&str]| {
        let mut command = world.command(programs::path("natssh-broker"));
        command.args(words);
        run(command)
    };
    let second = broker(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("a broker runs already at"), "{second:?}");
    broker(&["run", "--detached"]).ok();
    assert_eq!(world.broker_pid(), Some(pid));
    run(world.ssh(&["worker", "true"])).ok();
}

#[test]
fn nobody_is_served_to_or_by_another_user() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become another user.
        return;
    }
    need!("runuser", "python3");
    let world = Plan::new().start();
    // Not even a folder and a socket that are open to everybody let a stranger in.
    for open in [world.path(), &world.path().join("run"), &world.socket()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).expect("ours");
    }
    let shim = world.path().join("natssh");
    fs::copy(programs::path("natssh"), &shim).expect("a copy that everybody may start");
    let stranger = |words: &[&str]| {
        let mut command = world.command("runuser");
        command.args(["-u", "nobody", "--"]).args(words).current_dir("/");
        run(command)
    };
    let refused = stranger(&[shim.to_str().expect("plain"), "proxy", "worker", "22"]);
    assert!(refused.unreachable().contains("is served by user 0, not by you"), "{refused:?}");
    assert!(refused.stderr.contains("nothing was sent"), "{refused:?}");
    world.until_status("the stranger is counted", |status| status.requests.strangers == 1);

    let knock = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                 s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(9))";
    let socket = world.socket();
    let dismissed = stranger(&["python3", "-c", knock, socket.to_str().expect("plain")]);
    assert!(!dismissed.text().contains("HTTP"), "{dismissed:?}");
    world.until_status("the stranger is counted", |status| status.requests.strangers == 2);
    assert_eq!(world.log_lines("a process of another user was refused"), 2);
}

#[test]
fn a_folder_that_others_may_write_to_is_refused_with_what_to_type() {
    let world = Plan::new().without_broker().start();
    let folder = world.path().join("run");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
    let said = run(world.natssh(&["proxy", "worker", "22"]));
    assert!(said.unreachable().contains(&format!("chmod 700 {}", folder.display())), "{said:?}");
}

#[test]
fn systemd_hands_over_the_socket_and_is_told_what_happens() {
    need!("python3");
    let world = Plan::new().without_broker().start();
    let service = world.path().join("service.py");
    fs::write(&service, FAKE_SYSTEMD).expect("ours");
    let mut systemd = world.command("python3");
    systemd.arg(&service).arg(world.socket()).arg(programs::path("natssh-broker"));
    let systemd = Running::start(systemd);
    natssh_tests::wait::until_heard_at(&world.socket());
    let echo = echo_server();
    let mut stream = connect(&world.socket(), &format!("127.0.0.1:{echo}"));
    echoes(&mut stream, "through a socket of systemd's");
    drop(stream);

    let pid = world.broker_pid().expect("it runs");
    let before = world.status();
    kill_process(pid, Signal::HUP).expect("ours");
    until("it is reloaded", || (world.log_lines("configuration reloaded") == 1).then_some(()));
    assert_eq!(world.status().pid, before.pid);
    kill_process(pid, Signal::TERM).expect("ours");
    let told = systemd.end().ok();
    let states: Vec<_> = told.lines().filter(|line| line.ends_with("=1")).collect();
    assert_eq!(states, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"], "{told}");
    assert!(world.socket().exists(), "the socket is systemd's");
}

#[test]
fn the_log_is_a_file_a_day_under_one_name_and_obeys_its_filter() {
    let world = Plan::new().without_broker().start();
    let start = |filter: &str, format: &str| {
        let mut command = world.natssh(&["broker", "start"]);
        command.env("NATSSH_LOG", filter).env("NATSSH_LOG_FORMAT", format);
        run(command)
    };
    start("natssh_broker::reach=debug,info", "json").ok();
    run(world.ssh(&["worker", "true"])).ok();
    run(world.natssh(&["broker", "stop"])).ok();
    let log = world.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let level = |level| lines.iter().filter(move |line| line["level"] == level).count();
    assert!(level("INFO") > 1 && level("DEBUG") > 0, "{log}");
    let today = fs::read_link(world.log_path()).expect("a name for today's file");
    assert!(today.to_string_lossy().contains("broker.log."), "{today:?}");

    start("error", "").ok();
    run(world.natssh(&["broker", "stop"])).ok();
    assert_eq!(world.log(), log, "an orderly life is no error");

    let nonsense = start("=[", "");
    assert_eq!(nonsense.code, Some(1));
    assert!(nonsense.stderr.contains("NATSSH_LOG=\"=[\" is no log filter"), "{nonsense:?}");
}

#[test]
fn a_broker_that_cannot_start_is_told_within_five_seconds() {
    let world = Plan::new().without_broker().start();
    let mut missing = world.ssh(&["worker", "true"]);
    missing.env("NATSSH_BROKER", "/nowhere/natssh-broker");
    let said = run(missing);
    assert!(said.unreachable().contains("NATSSH_BROKER is /nowhere/natssh-broker, which is not"), "{said:?}");
    assert!(said.took < Duration::from_secs(5), "{said:?}");

    let mut long = world.ssh(&["worker", "true"]);
    long.env("NATSSH_SOCKET", format!("/tmp/{}", "x".repeat(200)));
    let said = run(long);
    assert!(said.unreachable().contains("the socket's path"), "{said:?}");

    let mut readonly = world.ssh(&["worker", "true"]);
    readonly.env("NATSSH_SOCKET", "/proc/natssh/broker.sock");
    let said = run(readonly);
    assert!(said.unreachable().contains("/proc/natssh cannot be made"), "{said:?}");
    assert!(said.took < Duration::from_secs(5), "{said:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_to_an_ordinary_user() {
    let world = Plan::new().without_broker().start();
    let locked = world.path().join("locked");
    natssh_lab::state::create_private(&locked).expect("ours");
    let mut command = world.natssh(&["proxy", "worker", "22"]);
    if rustix::process::geteuid().is_root() {
        need!("runuser");
        // Root may write everywhere: nobody owns the folder and is the one who asks.
        let programs = world.path().join("programs");
        natssh_lab::state::create_private(&programs).expect("ours");
        for name in ["natssh", "natssh-broker"] {
            fs::copy(programs::path(name), programs.join(name)).expect("a copy");
        }
        for open in [world.path(), &programs] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        let owned = run({
            let mut chown = world.command("chown");
            chown.arg("nobody").arg(&locked);
            chown
        });
        owned.ok();
        command = world.command("runuser");
        command.args(["-u", "nobody", "--"]).arg(programs.join("natssh")).args(["proxy", "worker", "22"]);
        command.env("NATSSH_BROKER", programs.join("natssh-broker")).current_dir("/");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("ours");
    command.env("NATSSH_SOCKET", locked.join("broker.sock"));
    let said = run(command);
    let told = said.unreachable();
    assert!(told.contains("the broker did not start") && told.contains("ermission denied"), "{said:?}");
    assert!(said.took < Duration::from_secs(5), "{said:?}");
}

/// Stands in for systemd, as far as sd_listen_fds(3) and sd_notify(3) go; prints what it is told.
const FAKE_SYSTEMD: &str = r#"
import os, socket, sys
path, broker = sys.argv[1:]
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind(path + ".notify")
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
child = os.fork()
if child == 0:
    os.dup2(listener.fileno(), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", NOTIFY_SOCKET=path + ".notify")
    log = os.open(path.replace(".sock", ".log"), os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(log, 2)
    os.execv(broker, [broker, "run"])
while True:
    state = told.recv(4096).decode()
    print(state, flush=True)
    if "STOPPING=1" in state:
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// A port that sends back what it gets, for as long as the test runs. The proxy's own host is reached
/// directly, and that is this host.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let copied = std::io::copy(&mut &stream, &mut &stream);
                copied.and_then(|_| stream.shutdown(std::net::Shutdown::Write))
            });
        }
    });
    port.to_string()
}

#[track_caller]
fn echoes(stream: &mut UnixStream, word: &str) {
    stream.write_all(word.as_bytes()).expect("the stream takes bytes");
    let mut came = vec![0; word.len()];
    stream.read_exact(&mut came).expect("the stream brings bytes");
    assert_eq!(came, word.as_bytes());
}

/// Waits for the end of a broker.
#[track_caller]
fn gone(pid: Pid) {
    let ended = within(Duration::from_secs(10), || has_ended(pid).then_some(()));
    assert!(ended.is_some(), "it still runs");
}

/// Whether a process has ended. One that nobody has waited for stays a zombie.
fn has_ended(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}
