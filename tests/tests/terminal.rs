//! The same keys typed to the real `ssh` and to `natssh`, each at a terminal of its own: what is shown, the status, and
//! the state that the terminal is left in are compared. What is meant to differ is listed in docs/ssh.md, and here
//! beside the case that shows it.

#[path = "terminal/table.rs"]
mod table;

use natssh_tests::screen::{Shown, lacks_terminals};
use natssh_tests::{Plan, Screen, World, need, programs, run};
use rustix::process::{Signal, kill_process};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, tcgetattr, tcsetattr,
};
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use table::Act::{Resizes, Sees, SeesPrompt, Types};
use table::{CASES, Case, WAITS, case};

/// As many at a time: an ssh of its own for each is mostly waiting.
const AT_ONCE: usize = 6;
#[test]
fn natssh_is_the_terminal_that_ssh_is() {
    need!("ssh", "sshd", "setsid", "stty");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let (next, differing) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(difference) = compare(&world, case) {
                        differing.lock().unwrap().push(difference);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    assert!(differing.is_empty(), "{} of {} differ:\n{}", differing.len(), CASES.len(), differing.join("\n"));
}

fn compare(world: &World, case: &Case) -> Result<(), String> {
    let (theirs, ours) = (play(world, "ssh", case), play(world, "natssh", case));
    for shown in [&theirs, &ours] {
        assert_eq!(shown.before, shown.after, "{case:?}");
    }
    let bytes = without_farewell(&theirs.bytes);
    if theirs.code == ours.code && bytes == ours.bytes {
        return Ok(());
    }
    let (theirs, ours) = (
        format!("{:?} {}", theirs.code, bytes.escape_ascii()),
        format!("{:?} {}", ours.code, ours.bytes.escape_ascii()),
    );
    Err(format!("{case:?}\n  ssh:    {theirs}\n  natssh: {ours}"))
}

/// What comes of it.
fn play(world: &World, program: &str, case: &Case) -> Shown {
    let mut words = case.options.to_vec();
    words.push("control-plane");
    words.extend(Some(case.command).filter(|command| !command.is_empty()));
    let screen = Screen::start(&call(world, program, &words));
    for act in case.acts {
        match act {
            Sees(words) => screen.until_shown(words, 1),
            Types(keys) => screen.types(keys),
            Resizes(columns, rows) => screen.resize(*columns, *rows),
            SeesPrompt => screen.until_prompted(),
        }
    }
    screen.end()
}

/// A program with the world's configuration, at a terminal that is called `xterm`.
fn call(world: &World, program: &str, words: &[&str]) -> Command {
    let mut command = match program {
        "ssh" => world.command("ssh"),
        other => world.command(programs::path(other)),
    };
    command.arg("-F").arg(world.ssh_config_path()).args(words).env("TERM", "xterm");
    command
}

/// Without what ssh says at the end of a session that had a terminal, and natssh does not.
fn without_farewell(bytes: &[u8]) -> &[u8] {
    let words = b"Connection to control-plane closed.";
    let end = bytes.trim_ascii_end();
    end.strip_suffix(words).unwrap_or(bytes)
}

#[test]
fn a_caller_without_a_terminal_may_have_one_all_the_same() {
    need!("ssh", "sshd", "stty");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let said = |program: &str| {
        run(call(&world, program, &["-tt", "control-plane", "tty -s; echo $?; stty -a; printf err >&2"])).ok()
    };
    let (theirs, ours) = (said("ssh"), said("natssh"));
    assert!(theirs.contains("rows 0; columns 0"), "{theirs}");
    assert_eq!(ours, theirs.replace("rows 0; columns 0", "rows 24; columns 80"));
    let lacking = run(call(&world, "natssh", &["-t", "control-plane", "tty -s; echo $?"]));
    assert_eq!(lacking.text(), "1\n");
    let words = "Pseudo-terminal will not be allocated because stdin is not a terminal.\r\n";
    assert_eq!(lacking.stderr, words);
}

/// Every way out but `kill -9`.
#[test]
fn the_terminal_is_given_back_whatever_ends_the_call() {
    need!("sshd", "setsid", "stty");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let begun = || {
        let screen = Screen::start(&call(&world, "natssh", &["-t", "control-plane", WAITS]));
        screen.until_shown("begin", 1);
        assert!(screen.is_raw());
        screen
    };
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        let screen = begun();
        screen.signal(signal);
        let shown = screen.end();
        assert_eq!((shown.code, &shown.after), (Some(255), &shown.before), "{signal:?}: {}", shown.text());
    }
    // `~.` is for when nobody answers.
    let screen = begun();
    let broker = world.broker_pid().unwrap();
    kill_process(broker, Signal::STOP).unwrap();
    screen.types(b"x\r~.");
    let shown = screen.end();
    kill_process(broker, Signal::CONT).unwrap();
    assert_eq!((shown.code, &shown.after), (Some(255), &shown.before), "{}", shown.text());
    let screen = begun();
    kill_process(world.broker_pid().unwrap(), Signal::KILL).unwrap();
    let shown = screen.end();
    assert_eq!((shown.code, &shown.after), (Some(255), &shown.before), "{}", shown.text());
    assert!(shown.text().contains("the broker went away"), "{}", shown.text());
}

/// The terminal's own modes are the node's too, as with ssh.
#[test]
fn odd_modes_are_handed_on_as_ssh_does_it() {
    need!("ssh", "sshd", "setsid", "stty");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let said = |program: &str| {
        let command = call(&world, program, &["-t", "control-plane", "stty -a"]);
        let screen = Screen::prepared(&command, |line| {
            let mut odd = tcgetattr(line).unwrap();
            odd.special_codes[SpecialCodeIndex::VINTR] = b'K' & 0x1f;
            odd.special_codes[SpecialCodeIndex::VERASE] = 0;
            odd.special_codes[SpecialCodeIndex::VEOL2] = b'!';
            odd.input_modes |= InputModes::IUTF8 | InputModes::IXOFF | InputModes::INLCR;
            odd.input_modes -= InputModes::ICRNL | InputModes::IXON;
            odd.local_modes |= LocalModes::ECHONL | LocalModes::NOFLSH;
            odd.local_modes -= LocalModes::ECHOCTL | LocalModes::ECHOK;
            odd.output_modes |= OutputModes::OCRNL;
            odd.set_speed(19200).unwrap();
            tcsetattr(line, OptionalActions::Now, &odd).unwrap();
        });
        screen.resize(101, 33);
        let shown = screen.end();
        without_farewell(&shown.bytes).escape_ascii().to_string()
    };
    let theirs = said("ssh");
    assert!(theirs.contains("intr = ^K") && theirs.contains("19200"), "{theirs}");
    assert_eq!(said("natssh"), theirs);
}

/// One session is not all of a connection: what `~?` offers is what ssh offers where it shares one.
#[test]
fn the_escape_character_explains_itself_as_that_of_a_shared_connection() {
    need!("ssh", "sshd", "setsid");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let socket = world.path().join("master").display().to_string();
    let shared = ["-o", "ControlMaster=auto", "-S", &socket, "-o", "ControlPersist=yes"];
    run(call(&world, "ssh", &[&shared[..], &["control-plane", "true"]].concat())).ok();
    let explained = |program: &str, options: &[&str]| {
        let words = [options, &["-t", "control-plane", WAITS]].concat();
        let screen = Screen::start(&call(&world, program, &words));
        screen.until_shown("begin", 1);
        // An ssh that shares a connection is late with that.
        screen.until_raw(true);
        screen.types(b"~?");
        screen.until_shown("newline.)", 1);
        screen.types(b"~C~V~v~&~#");
        screen.until_shown("The following connections are open:", 1);
        screen.types(b"~.");
        screen.end().text()
    };
    let theirs = explained("ssh", &shared);
    run(call(&world, "ssh", &["-S", &socket, "-O", "exit", "control-plane"]));
    let ours = explained("natssh", &[]);
    let is_other = |line: &&str| {
        // A break cannot be sent; what a session is made of is the broker's to know; and natssh suspends nobody else.
        let others = [" ~B ", " ~I ", " ~^Z ", "  #", "Shared connection to"];
        !others.iter().any(|other| line.starts_with(other))
    };
    let lines = |text: &str| {
        text.lines()
            .map(|line| line.trim_end_matches('\r'))
            .filter(is_other)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&ours), lines(&theirs));
    assert!(ours.contains("\r\n ~^Z  - suspend ssh\r\n") && !ours.contains("~B"), "{ours}");
}

/// As any program does, and with the terminal as the shell wants it meanwhile.
#[test]
fn it_is_suspended_and_goes_on() {
    need!("sshd", "setsid", "stty", "bash");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let natssh = call(&world, "natssh", &["-t", "control-plane"]);
    let words: Vec<_> = natssh.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!(
        "{} {} 'stty -echo; echo begin; read -r it; echo \"it was $it\"; stty size'
         echo \"stopped by $?\"; stty -a | grep -o -w -e -icanon -e icanon; stty cols 99; fg >/dev/null",
        natssh.get_program().display(),
        words.join(" ")
    );
    let mut shell = world.command("bash");
    shell.args(["-m", "-c", &script]).env("TERM", "xterm");
    let screen = Screen::start(&shell);
    screen.until_shown("begin", 1);
    screen.types(b"~\x1a");
    screen.until_shown("icanon", 1);
    screen.until_raw(true);
    screen.types(b"on\r");
    let shown = screen.end();
    let text = shown.text();
    assert!(
        text.contains("~^Z [suspend ssh]\r\n") && text.contains("stopped by 148\r\nicanon\r\n"),
        "{text}"
    );
    assert!(text.ends_with("it was on\r\n24 99\r\n"), "{text}");
    assert_eq!(shown.code, Some(0));
}

/// A node whose sshd has none to give: an explicit wish for one ends the call, and a shell goes on without.
#[test]
fn a_terminal_that_is_refused_is_refused_as_with_ssh() {
    need!("ssh", "sshd", "setsid");
    let world = Plan::new().start();
    let config = world.lab.folder().node("control-plane").join("ssh/sshd_config");
    let lines = fs::read_to_string(&config).unwrap();
    fs::write(config, format!("PermitTTY no\n{lines}")).unwrap();
    let words = "PTY allocation request failed on channel 0";
    let demanded = |program: &str| {
        let shown = play(&world, program, &case(&["-t"], "true", &[]));
        assert_eq!(shown.before, shown.after);
        assert!(shown.text().contains(words), "{program}: {}", shown.text());
        shown.code
    };
    assert_eq!([demanded("ssh"), demanded("natssh")], [Some(255); 2]);
    let shell = |program: &str| {
        let screen = Screen::start(&call(&world, program, &["control-plane"]));
        screen.until_shown(words, 1);
        screen.until_raw(false);
        screen.types(b"test -t 0 || echo none; exit 3\r");
        let shown = screen.end();
        assert_eq!(shown.before, shown.after);
        (shown.code, without_farewell(&shown.bytes).escape_ascii().to_string())
    };
    assert_eq!(shell("natssh"), shell("ssh"));
}

/// The quickest of many keys: what else the machine does adds to some of them, a further round trip or a timer to all.
#[test]
fn a_key_is_echoed_as_soon_as_with_ssh_from_afar() {
    need!("ssh", "sshd", "setsid");
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().round_trip(Duration::from_millis(40)).start();
    let open = |program: &str| {
        let screen =
            Screen::start(&call(&world, program, &["-t", "control-plane", "echo begin; cat >/dev/null"]));
        screen.until_shown("begin", 1);
        screen
    };
    let (ours, theirs) = (open("natssh"), open("ssh"));
    let mut best = [Duration::MAX; 2];
    for key in 0..300 {
        best = [best[0].min(ours.echo(b'x')), best[1].min(theirs.echo(b'x'))];
        if key >= 10 && best[0] <= best[1].mul_f64(1.1) {
            return;
        }
    }
    panic!("natssh's and ssh's quickest echo: {best:?}");
}
