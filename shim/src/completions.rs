//! `natssh completions SHELL`: the words of [`crate::cli`], as the shell wants to have them.
//!
//! It is here and not in `natssh-broker` because the words are here. Words that
//! `natssh-broker` reads are passed on unseen; they are named once more below, for the shell alone.

use crate::cli::{Cli, Shell};
use crate::status::print;
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};
use natssh_wire::Failure;
use std::process::ExitCode;

/// Prints the script.
#[expect(clippy::unnecessary_wraps, reason = "the shape of all commands")]
pub(crate) fn run(shell: Shell) -> Result<ExitCode, Failure> {
    Ok(print(&script(shell), ExitCode::SUCCESS))
}

fn script(shell: Shell) -> String {
    let mut words = with_words_passed_on(Cli::command());
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut words, "natssh", &mut script),
        Shell::Zsh => generate(Zsh, &mut words, "natssh", &mut script),
        Shell::Fish => generate(Fish, &mut words, "natssh", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// The commands of `natssh-broker`, by their words.
fn with_words_passed_on(cli: Command) -> Command {
    cli.mut_subcommand("config", |_| {
        Command::new("config")
            .about("Check or show the configuration")
            .subcommand(Command::new("check").about("Print every complaint"))
            .subcommand(Command::new("show").about("Print the configuration in force"))
    })
    .mut_subcommand("identities", |_| {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs");
        Command::new("identities")
            .about("Print who you are towards which upstream, and for how long")
            .arg(json)
    })
    .mut_subcommand("doctor", |_| {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs");
        let hosts = Arg::new("hosts").num_args(0..).value_hint(ValueHint::Hostname);
        Command::new("doctor").about("Check everything that connections depend on").args([json, hosts])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_every_command_and_no_two_words_clash() {
        with_words_passed_on(Cli::command()).debug_assert();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?} lacks {}", command.get_name());
            }
            assert!(script.contains("check"), "{shell:?}");
        }
    }
}
