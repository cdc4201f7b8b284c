//! `natssh-broker`: the broker.

use natssh_broker::run::{self, Start};
use std::process::ExitCode;

fn main() -> ExitCode {
    let detached = std::env::args().any(|word| word == "--detached");
    run::run(if detached { Start::Detached } else { Start::Foreground })
}
