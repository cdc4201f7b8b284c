//! The words of the command line; the comments here are the help.

use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Reach hosts behind NAT through a broker that keeps the connections open.
#[derive(Debug, Parser)]
#[command(name = "natssh", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// `natssh proxy` alone, of the same words. It is started for every connection, and to build the parser of all commands
/// would be a third of its work.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct ProxyAlone {
    #[command(flatten)]
    asked: Proxy,
}

/// What `natssh proxy` is asked by these words; nothing where they are not for it, or not right: then [`Cli`] says so.
pub(crate) fn proxy_alone(words: &[OsString]) -> Option<Proxy> {
    words.first().filter(|word| *word == "proxy")?;
    ProxyAlone::try_parse_from(words).ok().map(|alone| alone.asked)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open a stream to HOST:PORT; made for ssh's ProxyCommand.
    Proxy(Proxy),
    /// Say what is open, what failed and what to type (exit status 0 healthy, 1 needs you, 3 no broker).
    Status {
        /// The broker's own answer; its fields are described in PROTOCOL.md.
        #[arg(long)]
        json: bool,
        /// Go on showing it, every 2 seconds or as often as is said, until ^C.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = seconds)]
        watch: Option<Duration>,
    },
    /// Say why HOST could not be reached lately, and what to do (exit status 0 nothing failed, 1 something did).
    Why {
        /// The node as ssh was asked for it.
        #[arg(value_hint = ValueHint::Hostname)]
        host: String,
    },
    /// Forget that UPSTREAM refused or failed, and dial it now (exit status 0 it answers, 1 it does not, 3 no broker).
    Retry {
        /// Its name, as in `natssh status`.
        upstream: String,
    },
    /// List the sessions that are kept warm, or close some (exit status 0 done, 3 no broker).
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        /// As in `natssh status --json`.
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        close: Option<Sessions>,
    },
    /// Print a fragment for ~/.ssh/config, so that stock ssh goes through natssh.
    #[command(name = "ssh-config", disable_help_flag = true)]
    SshConfig {
        /// Passed on to natssh-broker.
        #[arg(value_name = "HOST", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Do what ssh would do; needed only for a host whose name is one of these commands (see docs/ssh.md).
    #[command(disable_help_flag = true)]
    Ssh {
        /// Options, host and command, as for ssh.
        #[arg(value_name = "HOST", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Copy files by the real scp, on the sessions that are kept: `scp -S natssh`.
    #[command(disable_help_flag = true)]
    Scp {
        /// As for scp.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Transfer files by the real sftp, on the sessions that are kept: `sftp -S natssh`.
    #[command(disable_help_flag = true)]
    Sftp {
        /// As for sftp.
        #[arg(value_name = "HOST", value_hint = ValueHint::Hostname, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Start, stop and look after the broker.
    Broker {
        #[command(subcommand)]
        command: Broker,
    },
    /// Check or show the configuration.
    #[command(disable_help_flag = true)]
    Config {
        /// `check` or `show`, and what natssh-broker takes with it.
        #[arg(value_name = "check|show", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Check everything that connections depend on, and say what to type where something is wrong.
    #[command(disable_help_flag = true)]
    Doctor {
        /// Passed on to natssh-broker.
        #[arg(value_name = "HOST", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Print who you are towards which upstream, and for how long.
    #[command(disable_help_flag = true)]
    Identities {
        /// Passed on to natssh-broker.
        #[arg(value_name = "--json", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Print what a shell needs to complete the words of natssh.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// Let the next command to HOST authenticate afresh; running ones finish, and what HOST refused is forgotten.
    Close {
        /// The node as ssh was asked for it, or its HostName.
        #[arg(value_hint = ValueHint::Hostname, required_unless_present = "all", conflicts_with = "all")]
        host: Option<String>,
        /// All sessions.
        #[arg(long)]
        all: bool,
    },
}

/// A shell that completes words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// For ~/.local/share/bash-completion/completions/natssh.
    Bash,
    /// For a file _natssh in a folder of $fpath.
    Zsh,
    /// For ~/.config/fish/completions/natssh.fish.
    Fish,
}

/// What `natssh proxy` was asked.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Proxy {
    /// The node (ssh's %h).
    #[arg(value_hint = ValueHint::Hostname)]
    pub(crate) host: String,
    /// Its port (ssh's %p).
    pub(crate) port: String,
    /// Seconds to wait for the stream; never more than 9, because ssh itself sets no limit here.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) connect_timeout: Duration,
    /// The login on the node (ssh's %r), for routes and messages.
    #[arg(long, value_name = "USER")]
    pub(crate) login: Option<String>,
    /// Whether to hand the connection to ssh (ProxyUseFdpass) or to copy its bytes.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) fdpass: Fdpass,
}

/// How the stream reaches the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fdpass {
    /// Hand over if stdin and stdout are one unix socket on which the caller waits in silence.
    Auto,
    /// Hand over.
    Yes,
    /// Copy.
    No,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    /// Start the broker, if none runs.
    Start,
    /// Stop it: no new streams, and open ones get a minute to end.
    Stop {
        /// Cut the open streams.
        #[arg(long)]
        now: bool,
        /// Seconds to wait for its end.
        #[arg(long, value_name = "SECONDS", default_value = "65", value_parser = seconds)]
        wait: Duration,
    },
    /// Start another in its place, while its open streams get a minute to end.
    Restart,
    /// Read the configuration and the identities again.
    Reload,
    /// Show the end of its log.
    Logs {
        /// Go on as it grows.
        #[arg(short, long)]
        follow: bool,
        /// How many lines.
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = 50)]
        lines: u32,
    },
    /// Run it in the foreground.
    #[command(disable_help_flag = true)]
    Run {
        /// Passed on to natssh-broker.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// Shows help, or what was wrong with the words.
pub(crate) fn explain(usage: &clap::Error, words: &[OsString]) -> ExitCode {
    let _ = usage.print();
    let for_ssh = words.first().is_some_and(|word| word == "proxy");
    match usage.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if for_ssh => ExitCode::from(crate::UNREACHABLE),
        _ => ExitCode::from(2),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds above 0 is wanted".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_words_fit_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn words_for_the_broker_program_pass_through() {
        let cli = Cli::try_parse_from(["natssh", "ssh-config", "--help", "web-*"]).unwrap();
        assert!(matches!(cli.command, Command::SshConfig { words } if words == ["--help", "web-*"]));
    }

    #[test]
    fn a_host_that_looks_like_an_option_is_refused() {
        assert!(Cli::try_parse_from(["natssh", "proxy", "-oProxyCommand=x", "22"]).is_err());
        assert!(Cli::try_parse_from(["natssh", "proxy", "web", "22", "--connect-timeout", "0"]).is_err());
        assert!(Cli::try_parse_from(["natssh", "proxy", "web", "22", "--connect-timeout", "nan"]).is_err());
    }

    proptest! {
        #[test]
        fn proxy_alone_means_what_it_means_among_all_commands(
            rest in proptest::collection::vec(
                proptest::sample::select(vec![
                    "web", "22", "--", "-h", "--help", "--version", "--login", "--login=", "ops", "--fdpass", "yes", "--fdpass=no",
                    "--connect-timeout", "--connect-timeout=2", "0", "-4", "", "proxy", "status",
                ]),
                0..6,
            ),
            first in proptest::sample::select(vec!["proxy", "proxy", "proxy", "prox", "status"]),
        ) {
            let words: Vec<OsString> = std::iter::once(first).chain(rest).map(OsString::from).collect();
            let all = Cli::try_parse_from(std::iter::once(&OsString::from("natssh")).chain(&words));
            let among_all = all.ok().and_then(|cli| match cli.command {
                Command::Proxy(asked) => Some(asked),
                _ => None,
            });
            prop_assert_eq!(proxy_alone(&words), among_all);
        }
    }
}
