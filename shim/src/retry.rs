//! `natssh retry UPSTREAM`: forget that it refused or failed, and try now.

use crate::call::{Missed, Version, question};
use crate::status::{no_broker, print};
use crate::words::one_line;
use crate::{NO_BROKER, complain, place};
use natssh_wire::Failure;
use natssh_wire::request::{encode_post, percent_encode};
use std::process::ExitCode;

/// Asks, and says what came of it. 0: it answers; 1: why it does not; 3: no broker runs.
pub(crate) fn run(upstream: &str) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    let request = encode_post(&format!("/v1/retry?upstream={}", percent_encode(upstream)))?;
    match question(&paths.socket, &request, Version::Ours) {
        Ok(_) => Ok(print(&format!("{} answers\n", one_line(upstream)), ExitCode::SUCCESS)),
        Err(Missed::Absent) => Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => Err(failure),
    }
}
