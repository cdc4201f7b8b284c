//! A broker that is absent is started, once, free of its starter, and with its complaint heard.

mod fake;

use fake::{CONNECTED, outcome};
use std::io::{PipeWriter, Read, Write, pipe};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a socket that nobody serves and a program to start in its place.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// The program is a script, so that each test says what a broker does.
    fn with(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        std::fs::write(place.path("natssh-broker"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(place.path("natssh-broker"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        place
    }

    /// The program is the fake broker at the end of this file.
    fn with_fake_broker(before: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let words = "printf %s \"$*\" > \"$(dirname \"$NATSSH_SOCKET\")/words\"";
        Self::with(&format!(
            "{before}\n{words}\nexec '{}' --exact fake_broker --ignored --nocapture",
            this.display()
        ))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn natssh(&self, words: &[&str]) -> Command {
        let mut command = fake::natssh(&self.path("broker.sock"), words);
        command.env("NATSSH_BROKER", self.path("natssh-broker"));
        command
    }

    /// The process numbers of the brokers that have served here.
    fn served(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.path("served")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// Ends the brokers that this test started, by their numbers.
impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.served() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn an_absent_broker_is_started_and_serves() {
    let place = Place::with_fake_broker("");
    let seen = outcome(&mut place.natssh(&["proxy", "web", "22"]));
    assert_eq!(seen, (Some(0), "hello".into(), String::new()));
    let again = outcome(&mut place.natssh(&["proxy", "web", "22"]));
    assert_eq!(again.0, Some(0));
    assert_eq!(place.served().len(), 1);
}

#[test]
fn fifty_at_once_start_one() {
    let place = Place::with_fake_broker("");
    let racing: Vec<_> = (0..50)
        .map(|_| {
            place
                .natssh(&["proxy", "web", "22"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for shim in racing {
        let done = shim.wait_with_output().unwrap();
        assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(0), &b"hello"[..]), "{done:?}");
    }
    assert_eq!(place.served().len(), 1);
}

#[test]
fn the_broker_holds_nothing_of_its_starter() {
    let place = Place::with_fake_broker("");
    let (mut reader, writer) = pipe().unwrap();
    leave_open_across_exec(&writer);
    let mut command = place.natssh(&["proxy", "web", "22"]);
    command.env("SECRET", "s").env("LC_ALL", "C").env("HOME", "/nowhere").env("SSH_AUTH_SOCK", "/agent");
    let mut shim = command.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    assert!(shim.wait().unwrap().success());
    drop(writer);

    // Ansible waits like this for the end of a pipe that a daemon would hold.
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(reader.read(&mut [0; 1]).unwrap()));
    assert_eq!(
        end.recv_timeout(Duration::from_secs(5)),
        Ok(0),
        "the broker holds a descriptor of its starter"
    );

    let environment = std::fs::read_to_string(place.path("environment")).unwrap();
    let mut names: Vec<_> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    names.sort_unstable();
    // Its own is GLIBC_TUNABLES.
    let kept = ["HOME", "LC_ALL", "NATSSH_BROKER", "NATSSH_SOCKET", "PATH", "SSH_AUTH_SOCK"];
    assert_eq!(names, ["GLIBC_TUNABLES"].into_iter().chain(kept).collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(place.path("folder")).unwrap(), "/");
    assert_eq!(std::fs::read_to_string(place.path("words")).unwrap(), "run --detached");
}

#[test]
fn what_the_broker_says_before_it_gives_up_is_said_at_once() {
    let place = Place::with(
        "echo 'natssh-broker: /c/natssh.toml line 3: unknown key \"uptsream\" (natssh config check)' >&2; exit 1",
    );
    let begun = Instant::now();
    let (code, stdout, stderr) = outcome(&mut place.natssh(&["proxy", "web", "22"]));
    assert_eq!((code, stdout.as_str()), (Some(255), ""));
    let line = "natssh: the broker did not start: /c/natssh.toml line 3: unknown key \"uptsream\" (natssh config check)";
    assert_eq!(stderr, format!("{line}\n"));
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
}

#[test]
fn a_broker_that_dies_without_a_word_or_talks_without_end_is_bounded() {
    let mute = Place::with("kill -9 $$");
    let (code, _, stderr) = outcome(&mut mute.natssh(&["broker", "start"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("signal: 9") && stderr.contains("(its log: "), "{stderr}");

    let chatty = Place::with("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1");
    let (code, _, stderr) = outcome(&mut chatty.natssh(&["proxy", "web", "22"]));
    assert_eq!(code, Some(255));
    assert!(stderr.len() < 16_000, "{} bytes", stderr.len());
}

#[test]
fn a_broker_that_never_listens_is_given_up_after_five_seconds() {
    // Its end comes by itself: nothing here may outlive the test.
    let place = Place::with("exec sleep 7");
    let begun = Instant::now();
    let (code, _, stderr) = outcome(&mut place.natssh(&["proxy", "web", "22"]));
    let took = begun.elapsed();
    assert_eq!(code, Some(255));
    assert!(stderr.contains("does not listen yet") && stderr.contains("broker.log"), "{stderr}");
    assert!((Duration::from_millis(4900)..Duration::from_secs(7)).contains(&took), "took {took:?}");
}

#[test]
fn a_lock_whose_holder_leaves_does_not_leave_us_without_a_broker() {
    // The first finds the lock taken and leaves quietly; by the next the holder is gone.
    let place = Place::with_fake_broker(
        "d=$(dirname \"$NATSSH_SOCKET\"); [ -e $d/left ] || { touch $d/left; exit 0; }",
    );
    let seen = outcome(&mut place.natssh(&["proxy", "web", "22"]));
    assert_eq!(seen, (Some(0), "hello".into(), String::new()));
}

#[test]
fn no_program_to_start_is_said() {
    let place = Place::with("");
    let (code, _, stderr) = outcome(place.natssh(&["proxy", "web", "22"]).env("NATSSH_BROKER", "/nowhere/x"));
    assert_eq!(code, Some(255));
    assert!(stderr.contains("/nowhere/x") && stderr.contains("export NATSSH_BROKER="), "{stderr}");
}

#[test]
fn the_same_words_go_to_the_other_program() {
    let place = Place::with("echo \"got $*\"; exit 7");
    for (words, got) in [
        (&["config", "check"][..], "got config check\n"),
        (&["config", "show", "--json"], "got config show --json\n"),
        (&["ssh-config", "--help"], "got ssh-config --help\n"),
        (&["ssh-config", "web-*"], "got ssh-config web-*\n"),
        (&["broker", "run", "--foo"], "got run --foo\n"),
    ] {
        assert_eq!(outcome(&mut place.natssh(words)), (Some(7), got.into(), String::new()), "{words:?}");
    }
}

#[test]
fn start_says_whether_one_ran_and_stop_waits_for_its_end() {
    let place = Place::with_fake_broker("");
    let (code, said, stderr) = outcome(&mut place.natssh(&["broker", "start"]));
    let pid = place.served()[0];
    assert_eq!((code, said), (Some(0), format!("started, pid {pid}\n")), "{stderr}");
    assert_eq!(outcome(&mut place.natssh(&["broker", "start"])).1, format!("runs already, pid {pid}\n"));
    assert_eq!(
        outcome(&mut place.natssh(&["broker", "reload"])),
        (Some(0), "reloaded\n".into(), String::new())
    );

    let (code, said, stderr) = outcome(&mut place.natssh(&["broker", "restart"]));
    assert_eq!((code, said), (Some(0), format!("started, pid {}\n", place.served()[1])), "{stderr}");
    assert_eq!(outcome(&mut place.natssh(&["broker", "stop"])).1, "stopped\n");
    let lock = std::fs::File::open(place.path("lock")).unwrap();
    assert!(lock.try_lock().is_ok(), "it still runs");
    assert_eq!(outcome(&mut place.natssh(&["broker", "stop"])).0, Some(3));
}

#[test]
fn the_log_is_shown_by_tail() {
    let place = Place::with("");
    let (code, _, stderr) = outcome(&mut place.natssh(&["broker", "logs"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no log yet"), "{stderr}");
    std::fs::write(place.path("broker.log"), "one\ntwo\nthree\n").unwrap();
    assert_eq!(outcome(&mut place.natssh(&["broker", "logs", "-n", "2"])).1, "two\nthree\n");
}

/// Clears FD_CLOEXEC, as a program that knows nothing of its descendants would.
fn leave_open_across_exec(pipe: &PipeWriter) {
    rustix::io::fcntl_setfd(pipe, rustix::io::FdFlags::empty()).unwrap();
}

/// A broker of few words: one by a lock, it writes down what it was started with, and serves until it is stopped.
#[test]
#[ignore = "started by the other tests as natssh-broker"]
fn fake_broker() {
    let Some(socket) = std::env::var_os("NATSSH_SOCKET").map(PathBuf::from) else { return };
    let beside = |name: &str| socket.with_file_name(name);
    let lock = std::fs::File::create(beside("lock")).unwrap();
    if lock.try_lock().is_err() {
        std::process::exit(0);
    }
    let environment =
        std::env::vars_os().map(|(name, value)| format!("{}={}\n", name.display(), value.display()));
    std::fs::write(beside("environment"), environment.collect::<String>()).unwrap();
    std::fs::write(beside("folder"), std::env::current_dir().unwrap().as_os_str().as_encoded_bytes())
        .unwrap();
    let mut served = std::fs::OpenOptions::new().append(true).create(true).open(beside("served")).unwrap();
    writeln!(served, "{}", std::process::id()).unwrap();
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let Some(request) = fake::read_request(&stream) else { continue };
        let answer = match request.split(' ').next().unwrap() {
            "CONNECT" => [CONNECTED, b"hello"].concat(),
            "GET" => fake::json("200 OK", &format!("{{\"pid\":{}}}", std::process::id())),
            _ => fake::json("200 OK", "{}"),
        };
        let _ = stream.write_all(&answer);
        if request.starts_with("POST /v1/drain ") {
            std::fs::remove_file(&socket).unwrap();
            // It takes its time, as one that drains does.
            std::thread::sleep(Duration::from_millis(200));
            std::process::exit(0);
        }
    }
}
