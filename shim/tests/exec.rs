//! A command that the broker runs: its frames, the caller's streams, and every way in which it ends.

mod fake;

use fake::{FakeBroker, PATIENCE, SEED, checksum, drain, json, noise, outcome};
use natssh_wire::exec::ExecRequest;
use natssh_wire::frame::{FRAME_LIMIT, FromBroker, FromClient, Output};
use natssh_wire::{Failure, FailureKind, Word};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nNatssh-Protocol: 1\r\nConnection: Upgrade\r\nUpgrade: natssh-exec\r\n\r\n";
const BIG: usize = 100 * 1024 * 1024;

/// The broker's end of an exec that was answered with 101.
struct Served {
    stream: UnixStream,
    request: ExecRequest,
    bytes: Vec<u8>,
}

/// A frame of the client's that owns what it carries.
#[derive(Debug, PartialEq)]
enum Frame {
    Stdin(Vec<u8>),
    StdinEnd,
    Closed(Output),
    Signal(String),
}

impl Served {
    fn begin(mut stream: UnixStream) -> Self {
        let request = read_body(&mut stream);
        stream.write_all(SWITCHED).unwrap();
        Self { stream, request, bytes: Vec::new() }
    }

    fn say(&mut self, frame: &FromBroker<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn out(&mut self, text: &[u8]) {
        self.say(&FromBroker::Output(Output::Stdout, text));
    }

    fn exit(&mut self, status: u32) {
        self.say(&FromBroker::Exit(status));
    }

    /// The next frame; none once the client is gone.
    fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, taken)) = FromClient::decode(&self.bytes).unwrap() {
                let frame = match frame {
                    FromClient::Stdin(bytes) => Frame::Stdin(bytes.to_vec()),
                    FromClient::StdinEnd => Frame::StdinEnd,
                    FromClient::Closed(output) => Frame::Closed(output),
                    FromClient::Signal(name) => Frame::Signal(name.to_owned()),
                    FromClient::Window(_) | FromClient::Rekey => panic!("there is no terminal"),
                };
                self.bytes.drain(..taken);
                return Some(frame);
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// All input up to its end: length and checksum.
    fn drain(&mut self) -> (usize, u64) {
        let (mut length, mut sum) = (0, SEED);
        loop {
            match self.hear() {
                Some(Frame::Stdin(bytes)) => {
                    length += bytes.len();
                    sum = checksum(sum, &bytes);
                }
                Some(Frame::StdinEnd) => return (length, sum),
                other => panic!("{other:?} in the middle of the input"),
            }
        }
    }
}

fn read_body(stream: &mut UnixStream) -> ExecRequest {
    // The head was read already; JSON tells its own end.
    let mut body = serde_json::Deserializer::from_reader(stream);
    serde::Deserialize::deserialize(&mut body).unwrap()
}

fn exec(each: impl Fn(&mut Served) + Send + Sync + Clone + 'static) -> FakeBroker {
    FakeBroker::serve(move |stream| each(&mut Served::begin(stream)))
}

fn sum_of(seed: u64) -> (usize, u64) {
    noise(seed, BIG).fold((0, SEED), |(length, sum), chunk| (length + chunk.len(), checksum(sum, &chunk)))
}

fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("natssh does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_broker_is_told_all_that_ssh_would_see() {
    let (sender, requests) = channel();
    let broker = exec(move |served| {
        sender.send(std::mem::take(&mut served.request)).unwrap();
        served.exit(0);
    });
    let mut natssh = broker.natssh(&["ssh", "-p", "2222", "web", "printf", "%s", "", "ü"]);
    natssh.env("LC_TEST", "ö").current_dir("/usr");
    assert_eq!(natssh.status().unwrap().code(), Some(0));
    let head = broker.request();
    assert!(
        head.starts_with("POST /v1/exec HTTP/1.1\r\n") && head.contains("Upgrade: natssh-exec\r\n"),
        "{head}"
    );
    let request = requests.recv_timeout(PATIENCE).unwrap();
    let words: Vec<Word> = ["-p", "2222", "web", "printf", "%s", "", "ü"].map(Word::from).to_vec();
    assert_eq!((request.words, request.directory), (words, "/usr".into()));
    assert!(request.environment.contains(&("LC_TEST".into(), "ö".into())));
    assert_eq!(request.terminals, Default::default());
}

#[test]
fn the_exit_status_is_the_commands_and_255_everything_else() {
    for (frame, code) in [
        (FromBroker::Exit(0), 0),
        (FromBroker::Exit(1), 1),
        (FromBroker::Exit(254), 254),
        (FromBroker::Exit(256 + 3), 3),
        (FromBroker::Killed("KILL"), 255),
    ] {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let broker = exec(move |served| served.stream.write_all(&bytes).unwrap());
        assert_eq!(
            outcome(&mut broker.natssh(&["ssh", "web", "true"])),
            (Some(code), String::new(), String::new())
        );
    }
}

#[test]
fn both_outputs_come_out_as_they_come_in_and_not_by_line() {
    let (went, go) = pipe().unwrap();
    let went = std::sync::Arc::new(std::sync::Mutex::new(went));
    let broker = exec(move |served| {
        served.out(b"no line\0");
        served.say(&FromBroker::Output(Output::Stderr, b"nor here"));
        served.out(b"");
        // Nothing more before the first was seen.
        went.lock().unwrap().read_exact(&mut [0]).unwrap();
        served.out(&[0xff; 3]);
        served.exit(0);
    });
    let mut shim = broker.natssh(&["ssh", "web", "x"]);
    let mut shim = shim.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (shim.stdout.take().unwrap(), shim.stderr.take().unwrap());
    stdout.read_exact(&mut [0; 8]).unwrap();
    stderr.read_exact(&mut [0; 8]).unwrap();
    (&go).write_all(b"!").unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0xff; 3]);
    assert!(ended(&mut shim).success());
}

#[test]
fn a_hundred_megabytes_pass_each_way_at_once() {
    let (sender, arrived) = channel();
    let broker = exec(move |served| {
        let mut out = served.stream.try_clone().unwrap();
        let printing = std::thread::spawn(move || {
            noise(1, BIG).for_each(|chunk| {
                let mut bytes = Vec::new();
                FromBroker::Output(Output::Stdout, &chunk).encode(&mut bytes);
                out.write_all(&bytes).unwrap();
            });
        });
        sender.send(served.drain()).unwrap();
        printing.join().unwrap();
        served.exit(0);
    });
    let mut shim = broker.natssh(&["ssh", "web", "x"]);
    let mut shim = shim.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shim.stdin.take().unwrap();
    let writing =
        std::thread::spawn(move || noise(2, BIG).for_each(|chunk| input.write_all(&chunk).unwrap()));
    assert_eq!(drain(shim.stdout.take().unwrap()), sum_of(1));
    writing.join().unwrap();
    assert_eq!(arrived.recv_timeout(PATIENCE).unwrap(), sum_of(2));
    assert!(ended(&mut shim).success());
}

#[test]
fn a_stdout_that_nobody_reads_stops_neither_stderr_nor_stdin() {
    let broker = exec(|served| {
        // More than a pipe and a socket hold, less than what is held.
        let zeros = vec![0; FRAME_LIMIT];
        (0..7).for_each(|_| served.out(&zeros));
        served.say(&FromBroker::Output(Output::Stderr, b"still here"));
        assert_eq!(served.hear(), Some(Frame::Stdin(b"and I".to_vec())));
        assert_eq!(served.hear(), Some(Frame::StdinEnd));
        served.exit(5);
    });
    let mut shim = broker.natssh(&["ssh", "web", "x"]);
    let mut shim = shim.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = shim.stderr.take().unwrap();
    stderr.read_exact(&mut [0; 10]).unwrap();
    shim.stdin.take().unwrap().write_all(b"and I").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(shim.try_wait().unwrap().is_none(), "its output is not out");
    assert_eq!(drain(shim.stdout.take().unwrap()).0, 7 * FRAME_LIMIT);
    assert_eq!(ended(&mut shim).code(), Some(5));
}

#[test]
fn an_output_whose_reader_left_is_told_and_the_status_still_comes() {
    let broker = exec(|served| {
        served.out(b"to nobody");
        let heard = [served.hear(), served.hear()];
        assert!(heard.contains(&Some(Frame::Closed(Output::Stdout))), "{heard:?}");
        served.out(b"dropped");
        served.say(&FromBroker::Output(Output::Stderr, b"heard"));
        served.exit(9);
    });
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut shim = broker.natssh(&["ssh", "web", "x"]);
    let said = shim.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((said.status.code(), said.stderr), (Some(9), b"heard".to_vec()));
}

#[test]
fn a_command_that_reads_nothing_and_prints_to_nobody_is_left() {
    let broker = exec(|served| {
        let mut bytes = Vec::new();
        FromBroker::Output(Output::Stdout, b"to nobody").encode(&mut bytes);
        // It reads nothing, and prints until nobody is there.
        while served.stream.write_all(&bytes).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut zeros =
        Command::new("head").args(["-c", "10000000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let mut shim = broker.natssh(&["ssh", "web", "x"]);
    let mut shim = shim.stdin(zeros.stdout.take().unwrap()).stdout(writer).spawn().unwrap();
    assert_eq!(ended(&mut shim).code(), Some(255));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let _ = zeros.kill();
    let _ = zeros.wait();
}

#[test]
fn input_comes_from_whatever_stdin_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"from a file").unwrap();
    let broker = exec(|served| {
        let mut all = Vec::new();
        while let Some(Frame::Stdin(bytes)) = served.hear() {
            all.extend_from_slice(&bytes);
        }
        served.out(&all);
        served.exit(0);
    });
    let (far, near) = UnixStream::pair().unwrap();
    (&far).write_all(b"from a socket").unwrap();
    drop(far);
    let (reader, writer) = pipe().unwrap();
    (&writer).write_all(b"from a pipe").unwrap();
    drop(writer);
    let inputs: [(Stdio, &str); 4] = [
        (std::fs::File::open(&file).unwrap().into(), "from a file"),
        (std::os::fd::OwnedFd::from(near).into(), "from a socket"),
        (reader.into(), "from a pipe"),
        (Stdio::null(), ""),
    ];
    for (stdin, expected) in inputs {
        let said = broker.natssh(&["ssh", "web", "cat"]).stdin(stdin).output().unwrap();
        assert_eq!(
            (said.status.code(), String::from_utf8(said.stdout).unwrap().as_str()),
            (Some(0), expected)
        );
    }
    let closed = |redirections: &str| {
        let mut shell = Command::new("sh");
        let natssh = broker.natssh(&[]);
        shell.env_clear().envs(natssh.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let line = format!("\"$0\" ssh web cat {redirections}");
        shell.args(["-c", &line]).arg(natssh.get_program()).status().unwrap().code()
    };
    assert_eq!(
        [closed("<&-"), closed("<&- >&-"), closed("<&- >&- 2>&-"), closed("</dev/null >&-")],
        [Some(0); 4]
    );
    let null = broker
        .natssh(&["ssh", "-n", "web", "cat"])
        .stdin(Stdio::from(std::fs::File::open(&file).unwrap()))
        .output();
    assert_eq!(null.unwrap().stdout, b"");
}

#[test]
fn what_others_share_still_blocks() {
    let broker = exec(|served| {
        served.out(b"x");
        served.exit(0);
    });
    let (reader, writer) = pipe().unwrap();
    let (input, feeder) = pipe().unwrap();
    let status = broker
        .natssh(&["ssh", "web", "x"])
        .stdin(input.try_clone().unwrap())
        .stdout(writer.try_clone().unwrap())
        .status();
    assert!(status.unwrap().success());
    for flags in [rustix::fs::fcntl_getfl(&input), rustix::fs::fcntl_getfl(&writer)] {
        assert!(!flags.unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    }
    drop((reader, feeder));
}

#[test]
fn a_signal_ends_it_as_it_ends_ssh() {
    for (signal, text) in [(Signal::INT, "2"), (Signal::TERM, "15"), (Signal::HUP, "1"), (Signal::QUIT, "3")]
    {
        let (sender, left) = channel();
        let broker = exec(move |served| {
            served.out(b"runs");
            while served.hear().is_some() {}
            sender.send(()).unwrap();
        });
        let mut shim = broker.natssh(&["ssh", "-v", "web", "x"]);
        let mut shim =
            shim.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        shim.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        kill_process(Pid::from_child(&shim), signal).unwrap();
        assert_eq!(ended(&mut shim).code(), Some(255));
        let mut said = String::new();
        shim.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("Killed by signal {text}.\r\n"));
        left.recv_timeout(PATIENCE).expect("the broker sees it leave");
    }
}

#[test]
fn what_went_wrong_is_one_sentence_and_255() {
    let failure = Failure::new(FailureKind::Cut, "the session to web ended").hint("natssh why web");
    let json = serde_json::to_vec(&failure).unwrap();
    let broker = exec(move |served| {
        served.out(b"begun");
        served.say(&FromBroker::Debug(1, "a word"));
        served.say(&FromBroker::Failed(&json));
    });
    let said = outcome(&mut broker.natssh(&["ssh", "web", "x"]));
    assert_eq!(
        said,
        (Some(255), "begun".into(), "natssh: the session to web ended (natssh why web)\r\n".into())
    );
    let quiet = outcome(&mut broker.natssh(&["ssh", "-q", "web", "x"]));
    assert_eq!(quiet, (Some(255), "begun".into(), String::new()));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, "before\r\n").unwrap();
    let logged = outcome(&mut broker.natssh(&["ssh", "-v", "-E", log.to_str().unwrap(), "web", "x"]));
    assert_eq!(logged, (Some(255), "begun".into(), String::new()));
    assert_eq!(
        std::fs::read_to_string(log).unwrap(),
        "before\r\ndebug1: a word\r\nnatssh: the session to web ended (natssh why web)\r\n"
    );
}

#[test]
fn a_broker_that_dies_under_a_command_is_said_and_not_asked_again() {
    let broker = exec(|served| served.out(b"begun"));
    let (code, stdout, stderr) = outcome(&mut broker.natssh(&["ssh", "web", "x"]));
    assert_eq!((code, stdout.as_str()), (Some(255), "begun"));
    assert!(stderr.contains("the broker went away") && stderr.contains("it may have run"), "{stderr}");
    broker.request();
    assert!(broker.had_no_more_requests());
}

#[test]
fn a_broker_that_leaves_before_its_answer_is_asked_again() {
    let times = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let broker =
        FakeBroker::serve(move |mut stream| match times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => drop(read_body(&mut stream)),
            1 => {
                read_body(&mut stream);
                let draining =
                    serde_json::to_string(&Failure::new(FailureKind::Draining, "leaving")).unwrap();
                stream.write_all(&json("503 Service Unavailable", &draining)).unwrap();
            }
            _ => Served::begin(stream).exit(4),
        });
    assert_eq!(outcome(&mut broker.natssh(&["ssh", "web", "x"])).0, Some(4));
}

#[test]
fn a_refusal_and_a_broker_of_another_kind_are_said() {
    let refusal = serde_json::to_string(&Failure::new(FailureKind::Offline, "web is offline")).unwrap();
    let old =
        serde_json::to_string(&Failure::new(FailureKind::BadRequest, "the local API has no POST /v1/exec"));
    for (answer, sentence) in [
        (json("502 Bad Gateway", &refusal), "natssh: web is offline\r\n"),
        (json("400 Bad Request", &old.unwrap()), "natssh: the local API has no POST /v1/exec\r\n"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), "does not say that it speaks version"),
        ([SWITCHED, b"\x77"].concat(), "there is no frame of kind 0x77"),
    ] {
        let broker = FakeBroker::serve(move |mut stream| {
            read_body(&mut stream);
            stream.write_all(&answer).unwrap();
            // Closing with bytes unread would be a reset.
            let _ = stream.read(&mut [0; 100]);
        });
        let (code, _, stderr) = outcome(&mut broker.natssh(&["ssh", "web", "x"]));
        assert_eq!(code, Some(255));
        assert!(stderr.contains(sentence), "{stderr}");
    }
}
