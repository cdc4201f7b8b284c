//! The same command line through the real `ssh` and through `natssh`, against the same sshd: status, both
//! outputs and what is left behind are compared. What is meant to differ is listed in docs/ssh.md, and here
//! beside the case that shows it.

#[path = "differential/case.rs"]
mod case;
#[path = "differential/master.rs"]
mod master;
#[path = "differential/table.rs"]
mod table;

use case::{Case, Seen, Stdin};
use natssh_tests::{Plan, World, need, run};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// As many at a time: an ssh of its own for each is mostly waiting.
const AT_ONCE: usize = 6;

#[test]
fn natssh_does_what_ssh_does() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().start();
    let cases = table::cases();
    let next = AtomicUsize::new(0);
    let differing = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(difference) = compare(&world, case) {
                        differing.lock().unwrap().push(difference);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), cases.len(), differing.join("\n"));
}

/// Both programs run the case in a folder of their own.
fn compare(world: &World, case: &Case) -> Result<(), String> {
    let theirs = case.run(world, "ssh");
    let ours = case.run(world, "natssh");
    case.judge(&theirs, &ours)
}

#[test]
fn a_shared_connection_is_controlled_and_forwards_as_sshs_is() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    assert_eq!(master::forwarded(&world, "natssh"), master::forwarded(&world, "ssh"));
    run(case::call(&world, "natssh", &["-O", "exit", "control-plane"])).ok();
    assert_eq!(master::controlled(&world, "natssh"), master::controlled(&world, "ssh"));
}

#[test]
fn every_exit_status_passes_through() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(status) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < 256) {
                    let said =
                        run(case::call(&world, "natssh", &["control-plane", &format!("exit {status}")]));
                    assert_eq!(said.code, i32::try_from(status).ok(), "{}", said.stderr);
                    assert_eq!((said.text(), said.stderr), (String::new(), String::new()));
                }
            });
        }
    });
}

/// A hundred megabytes from one side and the other at once, each counted by its checksum.
#[test]
fn a_hundred_megabytes_pass_both_ways_at_once() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().start();
    for program in ["ssh", "natssh"] {
        let config = world.ssh_config_path();
        let here = format!(
            "{many} | {program} -F {} control-plane '{}' | sha256sum",
            config.display(),
            "exec 3<&0; sha256sum <&3 >&2 & seq 20000000 | head -c 100000000; wait",
            many = natssh_tests::bytes::MANY,
        );
        let mut shell = world.command("sh");
        shell.args(["-c", &here]);
        let said = natssh_tests::Running::start(shell).end_within(Duration::from_secs(120));
        let sum = natssh_tests::bytes::checksum(&world, natssh_tests::bytes::MANY);
        assert_eq!((said.stderr.trim(), said.ok().trim()), (sum.as_str(), sum.as_str()), "{program}");
    }
}

/// `sleep &` holds an ssh as long as it holds the outputs, and no longer.
#[test]
fn what_runs_on_in_the_background_holds_the_call_as_long_as_its_outputs() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let seconds = |program: &str, command: &str| -> Seen {
        Case::new("background", &[], command).stdin(Stdin::Null).run(&world, program)
    };
    for program in ["ssh", "natssh"] {
        let held = seconds(program, "sleep 2 & echo here");
        assert_eq!(
            (held.code, held.stdout.as_slice()),
            (Some(0), &b"here\n"[..]),
            "{program} {}",
            held.stderr
        );
        assert!(held.took >= Duration::from_secs(2), "{program} {:?}", held.took);
        let free = seconds(program, "sleep 60 </dev/null >/dev/null 2>&1 & echo gone $!");
        assert_eq!(free.code, Some(0), "{program} {}", free.stderr);
        assert!(free.took < Duration::from_secs(20), "{program} {:?}", free.took);
        // Nothing of a story outlives it.
        let pid = String::from_utf8(free.stdout).unwrap().trim_start_matches("gone ").trim().to_owned();
        seconds(program, &format!("kill {pid}"));
    }
}
