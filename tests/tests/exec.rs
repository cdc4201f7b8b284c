//! Commands that natssh runs itself, on sessions that its broker keeps: what goes in, what comes out, how they end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use natssh_lab::processes::Process;
use natssh_tests::tools::workspace;
use natssh_tests::{Plan, Running, Said, World, need, run, until};
use rustix::process::{Pid, Signal, kill_process};

/// `natssh ssh WORDS` by the world's configuration.
fn natssh(world: &World, words: &[&str]) -> Command {
    let config = world.ssh_config_path();
    let mut command = world.natssh(&["ssh", "-F"]);
    command.arg(config).args(words);
    command
}

/// The same, for a shell to run.
fn line(world: &World) -> String {
    format!("natssh ssh -F {}", world.ssh_config_path().display())
}

fn shell(world: &World, script: &str) -> Said {
    let mut shell = world.command("bash");
    shell.args(["-c", script]);
    Running::start(shell).end_within(Duration::from_secs(120))
}

#[test]
fn every_exit_status_is_the_commands() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let natssh = line(&world);
    let script = format!("for n in $(seq 0 5 255) 254 255; do {natssh} worker \"exit $n\"; echo $n=$?; done");
    let said = shell(&world, &script).ok();
    let wrong: Vec<_> =
        said.lines().filter(|line| line.split_once('=').is_none_or(|(n, code)| n != code)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(said.lines().count(), 54);
    assert_eq!(world.log_lines("session opened"), 1, "one session for all: {}", world.log());
    let said = run(self::natssh(&world, &["worker", "kill -KILL $$"]));
    assert_eq!((said.code, said.stdout, said.stderr), (Some(255), Vec::new(), String::new()));
}

#[test]
fn words_and_bytes_arrive_as_they_are() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let natssh = |words: &[&str]| self::natssh(&world, words);
    assert_eq!(run(natssh(&["worker", "printf", "'%s|'", "", "'a  b'", "ü", "''"])).ok(), "a  b|ü||");
    assert_eq!(run(natssh(&["worker", "printf 'a\\0b\\377'; printf err >&2"])).stdout, b"a\0b\xff");
    assert_eq!(run(natssh(&["worker", "printf err >&2; exit 4"])).stderr, "err");
    let mut shell = natssh(&["worker"]);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"echo one\necho two; exit 7\n").unwrap();
    let said = shell.wait_with_output().unwrap();
    assert_eq!((said.status.code(), said.stdout), (Some(7), b"one\ntwo\n".to_vec()));
}

#[test]
fn input_ends_where_it_ends_and_output_goes_on() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let file = world.path().join("input");
    std::fs::write(&file, "from a file").unwrap();
    let with = |stdin: Stdio| {
        natssh(&world, &["worker", "cat; sleep 0.2; echo .; exit 3"]).stdin(stdin).output().unwrap()
    };
    for (stdin, expected) in [(Stdio::null(), ".\n"), (File::open(&file).unwrap().into(), "from a file.\n")] {
        let said = with(stdin);
        assert_eq!((said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()), (Some(3), expected));
    }
    let natssh = line(&world);
    for (redirection, expected) in [("<&-", "."), ("<&- 2>&-", "."), ("-n < input", ".")] {
        let (option, redirection) =
            redirection.strip_prefix("-n").map_or(("", redirection), |rest| ("-n", rest));
        let script =
            format!("cd {}; {natssh} {option} worker 'cat; echo .' {redirection}", world.path().display());
        assert_eq!(shell(&world, &script).ok().trim(), expected, "{script}");
    }
    let script = format!("{natssh} worker 'cat; exit 6' <&- >&-; echo $?");
    assert_eq!(shell(&world, &script).ok().trim(), "6");
}

#[test]
fn a_hundred_megabytes_go_in_and_come_out_whole() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().start();
    let natssh = line(&world);
    let make = "seq 20000000 | head -c 100000000";
    let script = format!(
        "{make} | sha256sum; {natssh} worker '{make}' | sha256sum; {make} | {natssh} worker sha256sum; \
         {make} | {natssh} worker cat | sha256sum"
    );
    let said = shell(&world, &script).ok();
    let sums: Vec<_> = said.lines().collect();
    assert_eq!(sums.len(), 4, "{said}");
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{said}");
}

#[test]
fn what_a_command_leaves_in_the_background_holds_it_as_with_ssh() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let held = run(natssh(&world, &["worker", "sleep 2 & echo done"]));
    assert!(held.took >= Duration::from_secs(2), "its output was open: {:?}", held.took);
    assert_eq!(held.ok(), "done\n");
    let free = run(natssh(&world, &["worker", "sleep 20 >/dev/null 2>&1 & echo done"]));
    assert_eq!(free.ok(), "done\n");
    assert!(free.took < Duration::from_secs(15), "{:?}", free.took);
}

#[test]
fn a_client_that_is_killed_takes_its_command_with_it() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let natssh = Running::interactive(natssh(&world, &["worker", "echo $$; cat; echo ended >>ended"]));
        natssh.until_said("\n");
        natssh.signal(signal);
        let said = natssh.stay();
        assert_eq!(said.code, if signal == Signal::KILL { None } else { Some(255) });
    }
    let ended = world.lab.folder().node("worker").join("home/ended");
    until("each has seen the end of its input", || {
        (std::fs::read_to_string(&ended).is_ok_and(|text| text.lines().count() == 3)).then_some(())
    });
    world.until_status("their channels are closed", |status| {
        status.sessions.iter().all(|session| session.channels <= 1)
    });
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let natssh = line(&world);
    let begun = Instant::now();
    let said = shell(&world, &format!("{natssh} worker yes | head -1; echo ${{PIPESTATUS[0]}}"));
    assert_eq!(said.ok(), "y\n255\n");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_broker_that_dies_is_said_and_one_that_drains_waits() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let mut held =
        Running::interactive(natssh(&world, &["worker", "echo runs; read word; echo $word; exit 9"]));
    held.until_said("runs");
    let first = world.broker_pid().unwrap();
    run(world.natssh(&["broker", "restart"])).ok();
    assert_ne!(world.broker_pid(), Some(first));
    assert_eq!(run(natssh(&world, &["worker", "echo next"])).ok(), "next\n");
    held.write(b"ends\n");
    let said = held.end();
    assert_eq!((said.code, said.text().as_str()), (Some(9), "runs\nends\n"));

    let held = Running::interactive(natssh(&world, &["worker", "echo runs; read word"]));
    held.until_said("runs");
    kill_process(world.broker_pid().unwrap(), Signal::KILL).unwrap();
    let said = held.stay();
    let sentence = said.unreachable();
    assert!(sentence.contains("the broker went away") && sentence.contains("it may have run"), "{sentence}");
    assert_eq!(run(natssh(&world, &["worker", "echo next"])).ok(), "next\n");
}

#[test]
fn a_session_that_is_lost_is_said_and_nothing_runs_twice() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let held = Running::interactive(natssh(&world, &["worker", "echo x >>ran; echo $PPID; read word"]));
    held.until_said("\n");
    let sshd: i32 = held.text_so_far().trim().parse().unwrap();
    kill_process(Pid::from_raw(sshd).unwrap(), Signal::KILL).unwrap();
    let said = held.stay();
    let sentence = said.unreachable();
    assert!(sentence.contains("worker ended under the command, which may have run"), "{sentence}");
    assert_eq!(run(natssh(&world, &["worker", "cat ran"])).ok(), "x\n");
}

#[test]
fn the_environment_is_what_the_settings_send() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    world.write_ssh_config("SendEnv LC_*\nSetEnv LC_SET=set");
    let mut natssh = natssh(&world, &["worker", "echo $LC_SENT-$LC_SET-$OTHER"]);
    natssh.env("LC_SENT", "sent").env("OTHER", "never");
    assert_eq!(run(natssh).ok(), "sent-set-\n");
}

#[test]
fn a_subsystem_that_is_not_there_is_refused_once() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let said = run(natssh(&world, &["-s", "worker", "nothing"]));
    assert!(said.unreachable().contains("has no subsystem \"nothing\"; nothing ran"), "{}", said.stderr);
    assert_eq!(world.log_lines("session opened"), 1);
}

#[test]
fn nothing_is_left_behind() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    run(natssh(&world, &["worker", "true"])).ok();
    let broker = world.broker_pid().unwrap().as_raw_nonzero().get();
    let descriptors = || std::fs::read_dir(format!("/proc/{broker}/fd")).unwrap().count();
    world.until_status("its channel is closed", |status| {
        status.sessions.iter().all(|session| session.channels <= 1)
    });
    let before = descriptors();
    let running: Vec<_> =
        (0..30).map(|n| Running::start(natssh(&world, &["worker", &format!("exit {n}")]))).collect();
    for (n, natssh) in running.into_iter().enumerate() {
        assert_eq!(natssh.end().code, i32::try_from(n).ok());
    }
    // Further sessions may be kept for a while: a descriptor each.
    until("the descriptors are closed", || {
        (descriptors() <= before + 2 * world.status().sessions.len()).then_some(())
    });
    let children =
        Process::find(broker.unsigned_abs()).map(|own| natssh_lab::processes::trees(&[own])).unwrap();
    assert_eq!(children.len(), 1, "it has started nothing that goes on");
}

#[test]
fn with_v_it_says_what_it_does() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let said = run(natssh(&world, &["-v", "worker", "true"]));
    let login = world.login();
    assert_eq!(said.stderr, format!("debug1: natssh: the command runs on a session to {login}@worker\r\n"));
    // As many levels as were asked for, and each with lines of its own: Ansible's suites count them.
    let said = run(natssh(&world, &["-vvv", "worker", "true"])).stderr;
    let level = |line: &str| {
        line.strip_prefix("debug").and_then(|rest| rest.split_once(": ")).map(|(level, _)| level.to_owned())
    };
    let levels: Vec<_> = said.lines().map(|line| level(line).expect("nothing else is said")).collect();
    assert_eq!(levels, ["1", "2", "3", "3"], "{said}");
    let log = world.path().join("said");
    let said = run(natssh(&world, &["-vE", log.to_str().unwrap(), "worker", "true"]));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(std::fs::read_to_string(log).unwrap().starts_with("debug1: "));
}

#[test]
fn a_hundred_small_answers_are_each_whole() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let running: Vec<_> = (0..100)
        .map(|n| {
            let mut natssh = natssh(&world, &["worker", &format!("head -c {n} /dev/zero | wc -c")]);
            natssh.stdin(Stdio::null()).stdout(Stdio::piped());
            natssh.spawn().unwrap()
        })
        .collect();
    for (n, mut natssh) in running.into_iter().enumerate() {
        let mut said = String::new();
        natssh.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = natssh.wait().unwrap();
        assert_eq!((said.trim(), status.code(), status.signal()), (n.to_string().as_str(), Some(0), None));
    }
}

/// The Python of PROTOCOL.md, as it stands there.
#[test]
fn the_client_of_the_protocols_description_works() {
    need!("ssh", "sshd", "python3");
    let world = Plan::new().start();
    let prose = std::fs::read_to_string(workspace().join("PROTOCOL.md")).unwrap();
    let blocks = prose.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    let client: String = blocks.collect();
    let story = r#"
import sys
path, config = sys.argv[1:]
assert connect(path, "worker:22").recv(4) == b"SSH-"
assert run(path, ["-F", config, "worker", "cat; printf err >&2; exit 3"], b"in\0") == (3, b"in\0", b"err")
many = bytes(range(256)) * 40000
assert run(path, ["-F", config, "worker", "cat"], many) == (0, many, b"")
assert run(path, ["-F", config, "worker", "kill -9 $$"])[0] == 255
for words, sentence in [(["-F", config, "-A", "worker", "true"], "-A"), (["-F", config, "-s", "worker", "no"], "no subsystem")]:
    try:
        run(path, words)
    except OSError as error:
        assert sentence in str(error), error
    else:
        raise AssertionError(words)
"#;
    let mut python = world.command("python3");
    python.args(["-c", &format!("{client}{story}")]).arg(world.socket()).arg(world.ssh_config_path());
    run(python).ok();
}
