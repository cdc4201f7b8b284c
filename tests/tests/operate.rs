//! Looking after a broker: what it tells Prometheus, a status that stays on the screen, and the
//! words that a shell completes.

use natssh_lab::Fault;
use natssh_lab::faults::ProxyFault;
use natssh_tests::run::Running;
use natssh_tests::{Plan, World, door, need, run, until};
use natssh_wire::status::Status;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn the_page_counts_what_went_through_and_what_did_not() {
    let world = Plan::new().start();
    assert_eq!(value(&world, "natssh_streams_opened_total{upstream=\"lab\"}"), Some(0.0));
    run(world.ssh(&["worker", "head -c 100000 /dev/zero"])).ok();
    run(world.ssh(&["worker", "true"])).ok();
    run(world.natssh(&["proxy", "nobody", "22"])).unreachable();

    // A stream is counted out when the broker has seen its end.
    until("all streams have ended", || {
        (value(&world, "natssh_streams_open{upstream=\"lab\"}") == Some(0.0)).then_some(())
    });
    for (series, expected) in [
        ("natssh_streams_opened_total{upstream=\"lab\"}", 2.0),
        ("natssh_stream_open_seconds_count{upstream=\"lab\"}", 2.0),
        ("natssh_dial_seconds_count{upstream=\"lab\"}", 1.0),
        ("natssh_dials_failed_total{upstream=\"lab\"}", 0.0),
        ("natssh_trunks{upstream=\"lab\",state=\"open\"}", 1.0),
        ("natssh_upstream_up{upstream=\"lab\"}", 1.0),
        ("natssh_identity_valid{identity=\"me\"}", 1.0),
    ] {
        assert_eq!(value(&world, series), Some(expected), "{series}\n{}", page(&world));
    }
    let from_node = value(&world, "natssh_bytes_total{upstream=\"lab\",direction=\"from_node\"}");
    assert!(from_node.is_some_and(|bytes| (100_000.0..200_000.0).contains(&bytes)), "{from_node:?}");
    let left = value(&world, "natssh_identity_expires_in_seconds{identity=\"me\"}");
    assert!(left.is_some_and(|left| left > 60.0), "{left:?}");
    let failed = page(&world)
        .lines()
        .filter(|line| line.starts_with("natssh_failures_total{upstream=\"lab\""))
        .count();
    assert_eq!(failed, 1, "{}", page(&world));
}

#[test]
fn what_is_lost_with_a_proxy_is_counted() {
    let world = Plan::new().start();
    let stream = door::connect(&world.socket(), "worker:22");
    assert_eq!(value(&world, "natssh_streams_open{upstream=\"lab\"}"), Some(1.0));
    world.fault(Fault::Proxy(ProxyFault::Stop));
    for series in [
        "natssh_streams_cut_total{upstream=\"lab\"}",
        "natssh_failures_total{upstream=\"lab\",kind=\"cut\"}",
        "natssh_dials_failed_total{upstream=\"lab\"}",
    ] {
        until(series, || value(&world, series).filter(|count| *count >= 1.0));
    }
    assert_eq!(value(&world, "natssh_upstream_up{upstream=\"lab\"}"), Some(0.0));
    assert_eq!(value(&world, "natssh_healthy"), Some(0.0));
    drop(stream);
    until("it is counted out", || {
        value(&world, "natssh_streams_open{upstream=\"lab\"}").filter(|open| *open == 0.0)
    });
}

#[test]
fn bytes_of_a_direct_stream_are_counted_while_it_is_open() {
    let world = Plan::new().config("[[route]]\nhosts = [\"127.*\"]\nupstream = \"direct\"\n").start();
    let node = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = node.local_addr().expect("it is bound").to_string();
    let mut stream = door::connect(&world.socket(), &address);
    let (mut peer, _) = node.accept().expect("the broker comes");
    stream.write_all(b"question").expect("written");
    peer.read_exact(&mut [0; 8]).expect("it arrives");
    peer.write_all(b"reply").expect("written");
    stream.read_exact(&mut [0; 5]).expect("it arrives");
    let bytes = |direction: &str| {
        value(&world, &format!("natssh_bytes_total{{upstream=\"direct\",direction=\"{direction}\"}}"))
    };
    until("both are counted", || {
        ((bytes("to_node"), bytes("from_node")) == (Some(8.0), Some(5.0))).then_some(())
    });
}

#[test]
fn a_port_for_prometheus_comes_moves_and_goes_with_the_configuration() {
    let world = Plan::new().start();
    assert_eq!(world.status().metrics, None);
    let usual = std::fs::read_to_string(world.config_path()).expect("the plan's");
    let reload = |tables: &str| {
        world.write_config(&format!("{usual}\n{tables}"));
        run(world.natssh(&["broker", "reload"])).ok();
    };

    reload("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let first = served_at(&world);
    let answer = scrape(&first, "GET", "/metrics", &first);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\nnatssh_healthy 1\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    for (method, path, host, status) in [
        ("GET", "/metrics", "rebound.example:9464", "421"),
        ("GET", "/v1/status", "localhost", "404"),
        ("POST", "/v1/stop", "localhost", "404"),
        ("POST", "/metrics", "localhost", "405"),
    ] {
        let answer = scrape(&first, method, path, host);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} {host}: {answer}");
    }
    assert!(run(world.natssh(&["status"])).ok().contains(&format!("\nmetrics http://{first}/metrics\n")));

    // A port that another program has: said, and taken as soon as it is free.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let wanted = taken.local_addr().expect("it is bound").to_string();
    reload(&format!("[metrics]\nlisten = \"{wanted}\"\n"));
    let sentence = format!("the metrics port {wanted} cannot be opened");
    world.until_status("the warning", |status| status.warnings.iter().any(|w| w.starts_with(&sentence)));
    assert!(TcpStream::connect(&first).is_err(), "the port of before is closed");
    let screen = run(world.natssh(&["status"])).ok();
    assert!(
        screen.contains(&format!("warning: {sentence}")),
        "a warning, and no reason to be unhealthy: {screen}"
    );
    drop(taken);
    world.until_status("the port is taken", |status| status.metrics.as_ref() == Some(&wanted));
    assert_eq!(world.log_lines(&sentence), 1, "said once, however often it was tried");

    reload("");
    world.until_status("no port", |status| status.metrics.is_none() && status.warnings.is_empty());
    assert!(TcpStream::connect(&wanted).is_err());
}

#[test]
fn a_port_that_others_could_reach_is_refused() {
    let world = Plan::new().without_broker().config("[metrics]\nlisten = \"0.0.0.0:9464\"\n").start();
    let said = run(world.natssh(&["config", "check"]));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("can be reached from elsewhere"), "{said:?}");
}

#[test]
fn a_watched_status_outlives_the_broker_and_ends_well_at_an_interrupt() {
    let world = Plan::new().without_broker().start();
    run(world.natssh(&["broker", "start"])).ok();
    let watching = Running::start(world.natssh(&["status", "--watch=0.2"]));
    until("two screens", || (watching.text_so_far().matches("every 0.2 s, ").count() >= 2).then_some(()));
    assert!(watching.text_so_far().contains("healthy"), "{}", watching.text_so_far());
    run(world.natssh(&["broker", "stop", "--now"])).ok();
    until("it is said", || {
        watching.text_so_far().contains("no broker is running (natssh broker start)").then_some(())
    });
    let before = watching.text_so_far().matches("healthy").count();
    run(world.natssh(&["broker", "start"])).ok();
    until("the new one is seen", || {
        (watching.text_so_far().matches("healthy").count() > before).then_some(())
    });
    watching.signal(Signal::INT);
    let said = watching.end();
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.text());
    assert!(!said.text().contains('\x1b'), "no terminal, nothing to steer");
    run(world.natssh(&["broker", "stop", "--now"])).ok();
}

#[test]
fn a_watched_json_is_one_document_after_the_other() {
    let world = Plan::new().start();
    let watching = Running::start(world.natssh(&["status", "--json", "--watch=0.1"]));
    until("three documents", || (watching.text_so_far().matches("\n}\n").count() >= 3).then_some(()));
    watching.signal(Signal::INT);
    let text = watching.end().ok();
    let read: Result<Vec<Status>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    assert!(read.is_ok_and(|read| read.len() >= 3), "{text}");
}

#[test]
fn a_terminal_is_overwritten_in_place() {
    need!("script");
    let world = Plan::new().start();
    // script(1) gives it a terminal, and the typed ^C reaches it as a person's does.
    let mut command = world.command("script");
    command.args(["-q", "-e", "-c", "stty rows 30 cols 100; exec natssh status --watch=0.2", "/dev/null"]);
    let mut watching = Running::interactive(command);
    until("three screens", || (watching.text_so_far().matches("\x1b[H").count() >= 3).then_some(()));
    watching.write(b"\x03");
    let said = watching.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.text().matches("\x1b[H\x1b[J").count(), 1, "cleared once, then overwritten");
}

#[test]
fn bash_completes_the_words() {
    need!("bash");
    let world = Plan::new().without_broker().start();
    let script = world.path().join("completion");
    std::fs::write(&script, run(world.natssh(&["completions", "bash"])).ok()).expect("our own folder");
    let complete = |words: &[&str]| {
        let mut bash = world.command("bash");
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            $(complete -p natssh | sed 's/.*-F \\([^ ]*\\).*/\\1/') natssh \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        bash.args(["--norc", "-c", ask, "bash"]).arg(&script).args(words);
        let said = run(bash);
        assert_eq!(said.stderr, "", "{words:?}");
        said.ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["natssh", "sta"]), ["status"]);
    assert_eq!(complete(&["natssh", "broker", "re"]), ["restart", "reload"]);
    assert_eq!(complete(&["natssh", "config", "ch"]), ["check"]);
    assert_eq!(complete(&["natssh", "status", "--w"]), ["--watch"]);
    assert!(complete(&["natssh", ""]).contains(&"why".to_owned()));
    for shell in ["zsh", "fish"] {
        let script = run(world.natssh(&["completions", shell])).ok();
        assert!(script.contains("status") && script.contains("broker"), "{shell}");
    }
}

/// A request on the port, and the whole answer.
fn scrape(address: &str, method: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the broker closes");
    answer
}

fn served_at(world: &World) -> String {
    world.until_status("the port is open", |status| status.metrics.is_some()).metrics.expect("just seen")
}

/// The page on the local socket.
fn page(world: &World) -> String {
    let answer = door::ask(&world.socket(), "GET", "/metrics").expect("the broker answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The value of a series on it.
fn value(world: &World, series: &str) -> Option<f64> {
    let page = page(world);
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
