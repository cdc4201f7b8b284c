//! What goes wrong gives one sentence, exit status 255, and in time.

mod fake;

use fake::{CONNECTED, FakeBroker, json, outcome};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

const PROXY: &[&str] = &["proxy", "web-3", "22"];

#[test]
fn the_brokers_reason_and_hint_reach_stderr_on_one_line() {
    let body = r#"{"kind":"offline","message":"node web-3 is offline\n\u001b[2J","hint":"natssh why web-3"}"#;
    let broker = FakeBroker::answer(json("502 Bad Gateway", body));
    let seen = outcome(&mut broker.natssh(PROXY));
    let line = "natssh: node web-3 is offline [2J (natssh why web-3)\n";
    assert_eq!(seen, (Some(255), String::new(), line.into()));
}

#[test]
fn an_answer_that_makes_no_sense_is_refused_and_not_waited_for() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000));
    for (answer, word) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "not HTTP/1.1"),
        (b"\0\xff\xfe", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\nNatssh-Protocol: 1\n\n", "0x0a"),
        (long.as_bytes(), "longer than"),
        (b"HTTP/1.1 200 OK\r\nX: y", "in the middle"),
        (b"HTTP/1.1 502 X\r\nContent-Length: 99999999999\r\n\r\n", "limit"),
        (b"HTTP/1.1 502 X\r\nContent-Length: 100\r\n\r\n{}", "in the middle"),
        (b"HTTP/1.1 502 X\r\n\r\nnot json", "not json"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "does not say that it speaks version 1"),
    ] {
        let begun = Instant::now();
        let broker = FakeBroker::answer(answer);
        let (code, stdout, stderr) = outcome(&mut broker.natssh(PROXY));
        assert_eq!((code, stdout.as_str()), (Some(255), ""), "{stderr}");
        assert!(stderr.starts_with("natssh: ") && stderr.contains(word), "{stderr:?} lacks {word:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(begun.elapsed() < Duration::from_secs(3), "took {:?} for {word}", begun.elapsed());
    }
}

#[test]
fn a_broker_of_another_version_is_to_be_restarted() {
    for answer in [
        "HTTP/1.1 200 Connected\r\nNatssh-Protocol: 2\r\n\r\n",
        "HTTP/1.1 426 X\r\nNatssh-Protocol: 2\r\n\r\n",
    ] {
        let (code, _, stderr) = outcome(&mut FakeBroker::answer(answer).natssh(PROXY));
        assert_eq!(code, Some(255));
        assert!(stderr.contains("version 2") && stderr.contains("(natssh broker restart)"), "{stderr}");
    }
}

#[test]
fn silence_ends_by_the_clock_of_the_shim() {
    let broker = FakeBroker::serve(|_stream| std::thread::sleep(fake::PATIENCE));
    let begun = Instant::now();
    let (code, _, stderr) = outcome(&mut broker.natssh(&["proxy", "web-3", "22", "--connect-timeout", "1"]));
    let took = begun.elapsed();
    assert_eq!(code, Some(255));
    assert!(stderr.contains("did not answer in time"), "{stderr}");
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&took), "took {took:?}");
    let request = broker.request();
    let told =
        request.split("Natssh-Timeout-Ms: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    assert!((1..1000).contains(&told.parse::<u32>().unwrap()), "the broker must answer before: {told}");
}

#[test]
fn a_trickle_does_not_stretch_the_clock() {
    let broker = FakeBroker::serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let (code, _, stderr) =
        outcome(&mut broker.natssh(&["proxy", "web-3", "22", "--connect-timeout", "0.5"]));
    assert_eq!(code, Some(255));
    assert!(stderr.contains("in time"), "{stderr}");
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
}

/// Elsewhere a full backlog refuses at once.
#[cfg(target_os = "linux")]
#[test]
fn a_full_backlog_ends_by_the_clock_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("broker.sock");
    let _deaf = UnixListener::bind(&socket).unwrap();
    // Nobody accepts: connect until the kernel says that it is full.
    let address = rustix::net::SocketAddrUnix::new(&socket).unwrap();
    let mut held = Vec::new();
    loop {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&client, &address) {
            Ok(()) => held.push(client),
            Err(rustix::io::Errno::AGAIN) => break,
            Err(e) => panic!("{e}"),
        }
        assert!(held.len() < 10_000, "no backlog is that long");
    }
    let begun = Instant::now();
    let (code, _, stderr) =
        outcome(&mut fake::natssh(&socket, &["proxy", "web-3", "22", "--connect-timeout", "0.5"]));
    assert_eq!(code, Some(255));
    assert!(stderr.contains("in time"), "{stderr}");
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
}

#[test]
fn a_draining_broker_is_asked_again() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let asked = Arc::new(AtomicU32::new(0));
    let broker = FakeBroker::serve(move |mut stream| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stream
            .write_all(&json("503 X", r#"{"kind":"draining","message":"the broker is draining"}"#))
            .unwrap(),
        1 => {}
        _ => stream.write_all(&[CONNECTED, b"hello"].concat()).unwrap(),
    });
    assert_eq!(outcome(&mut broker.natssh(PROXY)), (Some(0), "hello".into(), String::new()));
}

#[test]
fn words_that_make_no_request_are_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    for words in
        [&["proxy", "web 3", "22"][..], &["proxy", "web-3", "0"], &["proxy", "web-3"], &["proxy", "-o", "22"]]
    {
        let (code, stdout, stderr) = outcome(&mut fake::natssh(&folder.path().join("none.sock"), words));
        assert_eq!((code, stdout.as_str()), (Some(255), ""), "{words:?}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn a_socket_of_another_user_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be two users");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (socket, heard) = (folder.path().join("broker.sock"), folder.path().join("heard"));
    let program = tempfile::NamedTempFile::new_in(folder.path()).unwrap().into_temp_path();
    // The build folder may be closed to that user.
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let stranger = Command::new(&program)
        .args(["--exact", "stranger", "--ignored", "--nocapture"])
        .env("STRANGER_SOCKET", &socket)
        .env("STRANGER_HEARD", &heard)
        .stdout(std::process::Stdio::null())
        .uid(65_534)
        .spawn()
        .unwrap();
    let stranger = Ended(stranger);
    let deadline = Instant::now() + fake::PATIENCE;
    while !heard.exists() {
        assert!(Instant::now() < deadline, "the stranger does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    for words in [PROXY, &["status"], &["why", "web-3"], &["broker", "reload"]] {
        let (code, _, stderr) = outcome(&mut fake::natssh(&socket, words));
        assert_ne!(code, Some(0));
        assert!(stderr.contains("served by user 65534") && stderr.contains("nothing was sent"), "{stderr}");
    }
    drop(stranger);
    assert_eq!(std::fs::read_to_string(&heard).unwrap(), "");
}

/// A process that ends with the test, however the test ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another user's process in the broker's place; writes down what it is told.
#[test]
#[ignore = "started by a_socket_of_another_user_gets_nothing"]
fn stranger() {
    let (Some(socket), Some(heard)) =
        (std::env::var_os("STRANGER_SOCKET"), std::env::var_os("STRANGER_HEARD"))
    else {
        return;
    };
    let listener = UnixListener::bind(socket).unwrap();
    let mut heard = std::fs::File::create(heard).unwrap();
    for stream in listener.incoming() {
        std::io::copy(&mut stream.unwrap(), &mut heard).unwrap();
    }
}
