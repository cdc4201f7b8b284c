//! `natssh scp` and `natssh sftp`: the real tools, which start natssh where they would have started ssh.

use crate::voice::Voice;
use crate::{UNREACHABLE, real_ssh};
use natssh_wire::{Failure, FailureKind};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Becomes the tool, with `-S` and this program in front of its words: one of the caller's own holds instead.
pub(crate) fn run(tool: &str, words: &[OsString]) -> ExitCode {
    let failure = match real_ssh::own_file() {
        Ok(own) => {
            let error = Command::new(tool).arg("-S").arg(own).args(words).exec();
            Failure::new(FailureKind::Config, format!("run {tool}: {error}")).hint("install OpenSSH's client")
        }
        Err(failure) => failure,
    };
    Voice::default().complain(&failure);
    ExitCode::from(UNREACHABLE)
}
