//! What can go wrong, over every way in: each fault is brought about, ssh is
//! asked to run a command, and the fault is taken away again.
//!
//! In every cell the command ends within a bound and never succeeds falsely, a
//! failure says who or what is to blame, the next command works without anybody's
//! help, and the broker holds no more descriptors than before. `make chaos`
//! prints all of it as a table; a part that is quick runs with the other tests.

mod cell;
mod certificate;
mod faults;
mod ground;
mod machine;
mod path;
mod table;

use faults::{FAULTS, Fault};
use ground::Ground;
use natssh_tests::need;
use natssh_tests::way::Way;

/// Runs these faults over every way in, each on a ground of its own, at the same time.
fn campaign(faults: &[&'static Fault]) {
    let columns: Vec<_> = std::thread::scope(|threads| {
        let column = |way| {
            move || {
                let ground = Ground::new(way);
                faults.iter().map(|fault| cell::run(&ground, fault)).collect::<Vec<_>>()
            }
        };
        let running: Vec<_> = Way::ALL.map(|way| threads.spawn(column(way))).into();
        running
            .into_iter()
            .map(|thread| thread.join().expect("a cell catches what goes wrong in it"))
            .collect()
    });
    println!("{}", table::print(faults, &columns));
    let wrong: Vec<_> = columns.iter().flatten().filter_map(|cell| cell.wrong.as_deref()).collect();
    assert!(wrong.is_empty(), "{} cells went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn quick_faults_end_with_a_reason_and_without_help() {
    need!("ssh", "sshd", "socat");
    campaign(&FAULTS.iter().filter(|fault| fault.quick).collect::<Vec<_>>());
}

#[test]
#[ignore = "minutes: make chaos"]
fn every_fault_ends_with_a_reason_and_without_help() {
    need!("ssh", "sshd", "socat");
    let only = std::env::var("FAULT").unwrap_or_default();
    campaign(&FAULTS.iter().filter(|fault| fault.name.contains(&only)).collect::<Vec<_>>());
}
