//! `natssh status` and `natssh why`: what a person reads, and what a script does.

mod fake;

use fake::{FakeBroker, json, outcome};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A status whose times lie half a minute off whole ones, so that a slow machine reads the same words.
fn status(healthy: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (ago, ahead) = (now - 150, now + 11_550);
    format!(
        r#"{{"version":"0.1.0","protocol":1,"pid":4242,"started_at":{ago},"uptime_seconds":11520,
        "memory_bytes":9857664,"socket":"/run/user/1000/natssh/broker.sock","config":null,
        "healthy":{healthy},"draining":false,
        "upstreams":[
         {{"name":"teleport","kind":"teleport","address":"tp.example.com:3023","cluster":"example.com",
           "state":"connected","identity":"example","trunks":[{{"id":1,"state":"open","opened_at":{ago},
           "streams":12,"streams_total":40,"identity_generation":1}}],"streams":12,"streams_total":40,
           "streams_cut":0,"dials_ok":3,"dials_failed":1,"round_trip_ms":41.2,
           "last_error":{{"at":{ago},"count":1,"kind":"unreachable","message":"tp.example.com:3023: connection refused"}},
           "warnings":["the cluster proves its key with SHA-1 only"]}},
         {{"name":"direct","kind":"direct","address":"","state":"idle","trunks":[],"streams":0,"streams_total":0,
           "streams_cut":0,"dials_ok":0,"dials_failed":0}}],
        "identities":[{{"name":"example","source":"tsh profile example.com","state":"valid","user":"alice",
           "principals":["root","ubuntu"],"valid_until":{ahead},"generation":1}}],
        "failures":[{{"at":{ago},"count":3,"node":"web-3","upstream":"teleport","kind":"offline",
           "message":"node web-3 is offline\u001b[2J","hint":"natssh why web-3"}}],
        "requests":{{"accepted":41,"strangers":1,"malformed":0,"timed_out":0,"busy":0}}}}"#
    )
}

const SCREEN: &str = "\
broker 0.1.0  healthy  pid 4242  up 3 h 12 m  9.4 MiB
socket /run/user/1000/natssh/broker.sock
config none, defaults are in force
requests 41, of them refused: 1 of another user

UPSTREAM  STATE      ADDRESS              CLUSTER      TRUNKS  STREAMS  ROUND TRIP  DIALS
teleport  connected  tp.example.com:3023  example.com  1       12       41 ms       3 ok, 1 failed
direct    idle       -                    -            0       0        -           0 ok
  teleport: last error 2 m ago: tp.example.com:3023: connection refused
  teleport: the cluster proves its key with SHA-1 only

IDENTITY  STATE  USER   LOGINS        EXPIRES      SOURCE
example   valid  alice  root, ubuntu  in 3 h 12 m  tsh profile example.com

RECENT FAILURES
2 m ago     web-3, through teleport, 3 times: node web-3 is offline [2J
            try: natssh why web-3
";

#[test]
fn the_screen_is_calm() {
    let broker = FakeBroker::answer(json("200 OK", &status(true)));
    let (code, screen, stderr) = outcome(&mut broker.natssh(&["status"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(screen, SCREEN);
    assert!(broker.request().starts_with("GET /v1/status HTTP/1.1\r\n"));
}

#[test]
fn the_exit_status_says_whether_a_person_is_needed() {
    let broker = FakeBroker::answer(json("200 OK", &status(false)));
    let (code, screen, _) = outcome(&mut broker.natssh(&["status"]));
    assert_eq!(code, Some(1));
    assert!(screen.contains("needs you"), "{screen}");

    let folder = tempfile::tempdir().unwrap();
    for words in [&["status"][..], &["status", "--json"], &["broker", "stop"], &["broker", "reload"]] {
        let seen =
            outcome(fake::natssh(&folder.path().join("none"), words).env("NATSSH_BROKER", "/bin/false"));
        let line = "natssh: no broker is running (natssh broker start)\n";
        assert_eq!(seen, (Some(3), String::new(), line.into()), "{words:?}");
    }
}

#[test]
fn why_without_a_broker_says_what_keeps_one_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let mut why = fake::natssh(&folder.path().join("none"), &["why", "web-3"]);
    let (code, stdout, stderr) = outcome(why.env("NATSSH_BROKER", "/bin/false"));
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.starts_with("natssh: the broker did not start: "), "{stderr}");
}

#[test]
fn json_is_the_brokers_own_answer() {
    let body = status(true).replacen('{', "{\"from_a_newer_broker\":[1],", 1);
    let broker = FakeBroker::answer(json("200 OK", &body));
    assert_eq!(outcome(&mut broker.natssh(&["status", "--json"])), (Some(0), body + "\n", String::new()));
}

#[test]
fn an_answer_of_another_shape_or_version_is_said() {
    for (answer, word) in [
        (json("200 OK", r#"{"version":"0.1.0"}"#), "not understood"),
        (b"HTTP/1.1 200 OK\r\nNatssh-Protocol: 2\r\nContent-Length: 2\r\n\r\n{}".to_vec(), "version 2"),
    ] {
        let (code, _, stderr) = outcome(&mut FakeBroker::answer(answer).natssh(&["status"]));
        assert_eq!(code, Some(1));
        assert!(stderr.contains(word) && stderr.contains("(natssh broker restart)"), "{stderr}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    // More than a pipe holds, so that natssh is still writing when its reader leaves.
    let many = vec![
        r#"{"name":"u","kind":"direct","address":"","state":"idle","trunks":[],"streams":0,
        "streams_total":0,"streams_cut":0,"dials_ok":0,"dials_failed":0}"#;
        2000
    ]
    .join(",");
    let body = status(true).replace("\"upstreams\":[", &format!("\"upstreams\":[{many},"));
    let broker = FakeBroker::answer(json("200 OK", &body));
    let mut command = broker.natssh(&["status"]);
    let mut shim = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shim.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    let done = shim.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn a_watch_over_a_silent_broker_ends_at_an_interrupt() {
    let (seen, asked) = std::sync::mpsc::channel();
    let broker = FakeBroker::serve(move |stream| {
        let _ = seen.send(());
        std::thread::sleep(fake::PATIENCE);
        drop(stream);
    });
    let mut command = broker.natssh(&["status", "--watch"]);
    let mut shim = command.stdout(Stdio::null()).spawn().unwrap();
    asked.recv_timeout(fake::PATIENCE).expect("it asks");
    let begun = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&shim), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(shim.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "the answer would have been waited for 5 s");
}

#[test]
fn why_tells_the_failures_and_the_state_of_the_upstream() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let failures = format!(
        r#"{{"upstream":"teleport","failures":[{{"at":{},"count":2,"node":"web-3","upstream":"teleport",
        "kind":"offline","message":"node web-3 is offline","hint":"tsh ls"}}]}}"#,
        now - 150
    );
    let (code, text, _) = ask_why(failures, "root@web-3");
    assert_eq!(code, Some(1));
    let expected = "\
web-3: 1 failure, newest first
2 m ago     web-3, through teleport, 2 times: node web-3 is offline
            try: tsh ls
its upstream teleport is connected: 1 trunk, 12 streams
  last error 2 m ago: tp.example.com:3023: connection refused
  the cluster proves its key with SHA-1 only
";
    assert_eq!(text, expected);
}

#[test]
fn why_without_a_failure_says_so_and_is_content() {
    let (code, text, _) = ask_why(r#"{"failures":[],"upstream":"direct"}"#.into(), "web-4");
    assert_eq!(code, Some(0));
    let expected = "\
no failure of web-4 since the broker started 3 h 12 m ago
its upstream direct is idle: 0 trunks, 0 streams
";
    assert_eq!(text, expected);
    // A broker that does not name the route: all are told.
    let (_, text, _) = ask_why(r#"{"failures":[]}"#.into(), "web-4");
    assert!(text.contains("\nupstream teleport is") && text.contains("\nupstream direct is"), "{text}");
}

#[test]
fn the_question_of_why_cannot_be_bent() {
    let broker = FakeBroker::answer(json("200 OK", r#"{"failures":[]}"#));
    let _ = outcome(&mut broker.natssh(&["why", "a b&x=\r\ny"]));
    assert!(broker.request().starts_with("GET /v1/failures?node=a%20b%26x%3D%0D%0Ay HTTP/1.1\r\n"));
}

fn ask_why(failures: String, host: &str) -> (Option<i32>, String, String) {
    let questions = Arc::new(AtomicU32::new(0));
    let broker = FakeBroker::serve(move |mut stream| {
        // The first question is for the failures, the second for the status.
        let body = match questions.fetch_add(1, Ordering::SeqCst) {
            0 => failures.clone(),
            _ => status(true),
        };
        let _ = stream.write_all(&json("200 OK", &body));
    });
    outcome(&mut broker.natssh(&["why", host]))
}

#[test]
fn sessions_are_listed_and_closed() {
    let session = r#"{"node":"web-1:22","user":"root","state":"open","channels":2,"channels_total":9}"#;
    let body = status(true).replacen(r#""failures":"#, &format!(r#""sessions":[{session}],"failures":"#), 1);
    let broker = FakeBroker::answer(json("200 OK", &body));
    let (code, screen, _) = outcome(&mut broker.natssh(&["sessions"]));
    assert_eq!(code, Some(0));
    let line = screen.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("root@web-1:22  open") && line.contains("2 of 9"), "{screen}");

    let none = FakeBroker::answer(json("200 OK", &status(true)));
    assert_eq!(outcome(&mut none.natssh(&["sessions"])).1, "no sessions are open\n");

    for (words, request, said) in [
        (
            &["sessions", "close", "root@web-1"][..],
            "DELETE /v1/sessions/web-1 HTTP/1.1\r\n",
            "2 sessions to web-1 closed\n",
        ),
        (&["sessions", "close", "--all"], "DELETE /v1/sessions HTTP/1.1\r\n", "2 sessions closed\n"),
    ] {
        let broker = FakeBroker::answer(json("200 OK", r#"{"closed": 2}"#));
        assert_eq!(outcome(&mut broker.natssh(words)), (Some(0), said.into(), String::new()));
        assert!(broker.request().starts_with(request), "{words:?}");
    }
    let broker = FakeBroker::answer(json("200 OK", r#"{"closed": 0}"#));
    assert_eq!(
        outcome(&mut broker.natssh(&["sessions", "close", "web-1"])).1,
        "no session to web-1 was open\n"
    );
    for words in [&["sessions", "close"][..], &["sessions", "close", "--all", "web-1"]] {
        assert_eq!(outcome(&mut broker.natssh(words)).0, Some(2), "{words:?}");
    }
}
