//! The words of `natssh-broker`; the comments here are the help.
//!
//! People type `natssh`, which becomes this program for what needs the
//! configuration. Exit status: 0 done, 1 something is wrong and stderr says what,
//! 2 the words make no sense.

use crate::config::{self, Environment};
use crate::doctor;
use crate::identities;
use crate::ssh_config;
use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// Keeps authenticated proxy connections open and opens streams to nodes through them.
#[derive(Debug, Parser)]
#[command(name = "natssh-broker", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker.
    Run {
        /// Leave the terminal and the session of who started it.
        #[arg(long)]
        detached: bool,
    },
    /// Check or show the configuration.
    Config {
        #[command(subcommand)]
        command: Config,
    },
    /// Check everything that connections depend on, and say what to type where something is wrong.
    ///
    /// Exit status: 0 nothing fails (warnings may be there), 1 something does.
    Doctor {
        /// Hosts for which ssh should go through natssh; without any, one of each route.
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        /// For programs; docs/doctor.md describes the fields.
        #[arg(long)]
        json: bool,
    },
    /// Print who you are towards which upstream, and for how long.
    ///
    /// Exit status: 0 every identity that an upstream uses may be used now, 1 one may not.
    Identities {
        /// For programs; the fields are those of `identities` in PROTOCOL.md.
        #[arg(long)]
        json: bool,
    },
    /// Print a fragment for ~/.ssh/config, so that stock ssh goes through natssh.
    #[command(name = "ssh-config")]
    SshConfig {
        /// Nodes to print a block for each, under just these names; without any, blocks for whatever the routes take.
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Print every complaint as FILE:LINE: SENTENCE, or "ok" (exit status 0 ok, 1 complaints).
    Check,
    /// Print the configuration in force, with a comment on where each value comes from.
    Show,
}

/// Does what the command line says. `run` is the broker's life; its argument says whether it is detached.
pub fn main(run: impl FnOnce(bool) -> ExitCode) -> ExitCode {
    match Cli::parse().command {
        Command::Run { detached } => run(detached),
        Command::Config { command: Config::Check } => answer(config::cli::check(&Environment::of_process())),
        Command::Config { command: Config::Show } => answer(config::cli::show(&Environment::of_process())),
        Command::Doctor { hosts, json } => doctor::run(&hosts, json),
        Command::Identities { json } => identities::run(json),
        Command::SshConfig { hosts } => {
            answer(ssh_config::command::fragment(&hosts).map_err(|failure| format!("natssh: {failure}")))
        }
    }
}

/// The answer on stdout, or what is wrong on stderr. A reader that left early is no error worth words.
fn answer(result: Result<String, impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(text) => match writeln!(std::io::stdout(), "{}", text.trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(wrong) => {
            // eprintln! would panic where stderr is closed.
            let _ = writeln!(std::io::stderr(), "{wrong}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_fit_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
