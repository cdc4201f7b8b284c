//! `natssh proxy` under stock `ssh` and its friends.

use natssh_tests::{Plan, need, run};

#[test]
fn stock_ssh_reaches_a_node() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    assert_eq!(run(world.ssh(&["worker", "echo hello"])).ok(), "hello\n");
    let upstream = world.upstream();
    assert_eq!((upstream.dials_ok, upstream.streams_total), (1, 1));
}
