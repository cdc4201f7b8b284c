//! Nobody waits for a trunk that could have been foreseen.

use natssh_tests::door::connect;
use natssh_tests::{Plan, run};

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
