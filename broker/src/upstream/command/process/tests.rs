//! Real shells: what becomes of them, and of what they started.

use super::*;
use crate::upstream::command::group::GRACE;
use rustix::process::test_kill_process;
use std::collections::HashMap;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

fn start(line: &str) -> (Process, Arc<Processes>) {
    let processes = Arc::default();
    (Process::start(line, &Around::Broker(None), &processes, Vec::new()).unwrap(), processes)
}

/// The one group that is alive.
fn group(processes: &Processes) -> Pid {
    *processes.living().borrow().keys().next().unwrap()
}

async fn until_gone(processes: &Processes) {
    let mut groups = processes.living();
    timeout(Duration::from_secs(20), groups.wait_for(HashMap::is_empty)).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_first_byte_opens_and_nothing_of_it_is_lost() {
    let (mut process, _) = start("cat");
    process.stdin.as_mut().unwrap().write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert!(matches!(process.first_word().await, First::Byte));
    let Pipes { first, stdin, mut stdout } = process.pipes().unwrap();
    assert_eq!(&first[..], b"SSH-2.0-x\r\n");
    drop(stdin);
    let mut rest = Vec::new();
    assert_eq!(stdout.read_to_end(&mut rest).await.unwrap(), 0);
    process.exited().await;
    assert_eq!(process.cut().await, None, "it ended well");
}

#[tokio::test]
async fn an_early_end_is_told_with_its_status_and_its_last_words() {
    for (line, how, words) in [
        ("sh -c 'echo no such target >&2; exit 3'", "ended with exit status 3", "no such target"),
        ("sh -c 'kill -9 $$'", "was ended by signal 9", ""),
        ("sh -c 'exec >&-; sleep 60'", "closed its output", ""),
        ("true", "ended with exit status 0", ""),
    ] {
        let (mut process, processes) = start(line);
        let First::End(ended) = process.first_word().await else { panic!("{line} said something") };
        assert_eq!((ended.to_string().as_str(), process.last_words().await.as_str()), (how, words), "{line}");
        drop(process);
        until_gone(&processes).await;
    }
}

#[tokio::test]
async fn what_it_started_ends_with_it() {
    let (mut process, processes) = start("sh -c 'sleep 600 & echo $!; cat'");
    process.first_word().await;
    let child = String::from_utf8_lossy(&process.first).trim().parse().unwrap();
    let (child, leader) = (Pid::from_raw(child).unwrap(), group(&processes));
    assert!(test_kill_process(child).is_ok());
    drop(process);
    until_gone(&processes).await;
    for pid in [child, leader] {
        // Its parent is gone: whoever adopts it collects it in its own time.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        assert!(state.is_err() || state.unwrap().contains(") Z "), "{pid:?} is alive");
    }
}

#[tokio::test]
async fn one_that_does_not_want_to_end_is_killed() {
    let (mut process, processes) = start("sh -c 'trap \"\" HUP TERM; echo ready; while :; do sleep 1; done'");
    process.first_word().await;
    let since = Instant::now();
    drop(process);
    until_gone(&processes).await;
    assert!(since.elapsed() >= GRACE, "it had its time: {:?}", since.elapsed());
}

#[tokio::test]
async fn a_broker_that_leaves_takes_all_of_them_along() {
    let processes: Arc<Processes> = Arc::default();
    let line = "sh -c 'echo ready; sleep 600'";
    let mut all: Vec<_> = (0..5)
        .map(|_| Process::start(line, &Around::Broker(None), &processes, Vec::new()).unwrap())
        .collect();
    for process in &mut all {
        process.first_word().await;
    }
    assert_eq!(processes.living().borrow().len(), 5);
    // Their streams are still open; each ends when its process does.
    let streams = all.into_iter().map(|process| tokio::spawn(async move { process.exited().await }));
    let streams: Vec<_> = streams.collect();
    processes.end().await;
    assert!(processes.living().borrow().is_empty());
    for stream in streams {
        stream.await.unwrap();
    }
}

#[tokio::test]
async fn its_environment_is_the_brokers_with_the_callers_agent() {
    let processes = Arc::default();
    let mut process =
        Process::start("env", &Around::Broker(Some("/run/agent".into())), &processes, Vec::new()).unwrap();
    process.first_word().await;
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_buf(&mut process.first).await.unwrap();
    let text = String::from_utf8_lossy(&process.first).into_owned();
    assert!(text.lines().any(|line| line == "SSH_AUTH_SOCK=/run/agent"), "{text}");
    assert!(text.lines().any(|line| line == "PWD=/"), "{text}");
    // cargo sets it for every test.
    assert!(!text.contains("CARGO_MANIFEST_DIR"), "{text}");
}

#[tokio::test]
async fn whoever_a_command_starts_is_known_to_work_for_its_upstream() {
    let processes = Arc::default();
    let upstreams = vec!["outer".to_owned(), "inner".to_owned()];
    let mut process = Process::start(
        "sh -c 'sleep 600 & echo $!; wait'",
        &Around::Broker(None),
        &processes,
        upstreams.clone(),
    )
    .unwrap();
    process.first_word().await;
    let child = Pid::from_raw(String::from_utf8_lossy(&process.first).trim().parse().unwrap()).unwrap();
    assert_eq!(processes.upstreams_of(child), upstreams);
    assert!(processes.upstreams_of(rustix::process::getpid()).is_empty());
}
