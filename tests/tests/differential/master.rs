//! A connection that is shared: by a master of ssh's, and by natssh's pool.

use super::case;
use natssh_tests::{Running, World, run, until};
use std::io::{Read, Write};
use std::net::TcpListener;

/// What each step of the story said: status, and what is on stdout; on stderr, where both have the same words.
pub(crate) type Story = Vec<(Option<i32>, String)>;

/// Commands by a shared connection, and what `-O` says of it. With the real ssh the first command is the master.
pub(crate) fn controlled(world: &World, program: &str) -> Story {
    let path = format!("ControlPath={}", world.path().join(format!("cp-{program}")).display());
    let shared = |words: &[&str]| {
        case::call(
            world,
            program,
            &[&["-oControlMaster=auto", "-o", &path, "-oControlPersist=no"], words].concat(),
        )
    };
    let mut story = Vec::new();
    for what in ["stop", "exit"] {
        story.push((run(shared(&["-O", "check", "control-plane"])).code, "before".into()));
        let mut held =
            Running::interactive(shared(&["control-plane", "echo runs; read word; echo $word; exit 7"]));
        held.until_said("runs");
        let check = until("it is there to be shared", || {
            Some(run(shared(&["-O", "check", "control-plane"]))).filter(|said| said.code == Some(0))
        });
        let digits = |c: char| c.is_ascii_digit();
        story.push((check.code, check.stderr.replace(digits, "")));
        let beside = run(shared(&["control-plane", "echo beside; exit 3"]));
        story.push((beside.code, beside.text()));
        let said = run(shared(&["-O", what, "control-plane"]));
        story.push((said.code, said.stderr));
        story.push((run(shared(&["-O", "check", "control-plane"])).code, "after".into()));
        if what == "stop" {
            held.write(b"on\n");
        }
        let said = if what == "stop" { held.end() } else { held.stay() };
        story.push((said.code, said.text()));
    }
    story
}

/// `-W` to somebody who answers in capitals, and to nobody.
pub(crate) fn forwarded(world: &World, program: &str) -> Story {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let serve = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("somebody comes");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("text");
        socket.write_all(text.to_uppercase().as_bytes()).expect("it is read");
    });
    let mut forward = Running::interactive(case::call(world, program, &["-W", &address, "control-plane"]));
    forward.write("wörter\n".repeat(10_000).as_bytes());
    let said = forward.end();
    serve.join().expect("it has served");
    // Nobody listens there any more.
    let nobody = run(case::call(world, program, &["-W", &address, "control-plane"]));
    vec![(said.code, said.text()), (nobody.code, nobody.text())]
}
