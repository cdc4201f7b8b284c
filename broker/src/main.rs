//! `natssh-broker`: the broker, and what needs its configuration.

use natssh_broker::run::Start;
use natssh_broker::{cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(|detached| run::run(if detached { Start::Detached } else { Start::Foreground }))
}
