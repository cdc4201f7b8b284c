//! Nobody waits for a trunk that could have been foreseen.

use natssh_tests::door::{connect, try_connect};
use natssh_tests::node::Listening;
use natssh_tests::{Plan, run};
use std::fs;
use std::io::Read;
use std::time::Duration;

#[test]
fn a_spare_trunk_is_open_before_the_first_one_is_full() {
    let world = Plan::new().upstream("streams_per_trunk = 5").start();
    let mut streams: Vec<_> = (0..3).map(|_| connect(&world.socket(), "worker:22")).collect();
    assert_eq!(world.upstream().dials_ok, 1, "one is enough for three");
    streams.push(connect(&world.socket(), "worker:22"));
    let upstream = world.until_upstream("a spare is open", |upstream| upstream.trunks.len() == 2);
    assert_eq!((upstream.streams, upstream.trunks[1].streams), (4, 0));
    run(world.ssh(&["worker", "true"])).ok();
    assert_eq!(world.upstream().dials_ok, 2);
    drop(streams);
}

#[test]
fn a_dead_or_frozen_proxy_is_passed_over_where_there_is_another() {
    let world = Plan::new().without_broker().start();
    // Nobody listens at the one, and nobody says a word at the other.
    let dead = Listening::start(world.runtime(), drop).address();
    let frozen = Listening::start(world.runtime(), |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = world.lab.status().expect("the lab answers").proxy;
    let config = fs::read_to_string(world.config_path()).expect("our own file");
    let several = format!("[\"{dead}\", \"{}\", \"{proxy}\"]", frozen.address());
    world.write_config(&config.replace(&format!("\"{proxy}\""), &several));
    world.start_broker();
    // Half of a dial's 5 s are the frozen one's.
    drop(try_connect(&world.socket(), "worker:22", Duration::from_secs(9)).expect("the third answers"));
    run(world.ssh(&["worker", "true"])).ok();
    let upstream = world.upstream();
    assert_eq!((upstream.dials_ok, upstream.dials_failed), (1, 1), "the frozen one was tried once");
    assert_eq!(upstream.address, format!("{dead}, {}, {proxy}", frozen.address()));
}
