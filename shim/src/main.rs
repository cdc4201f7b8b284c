//! `natssh`: the small program that asks the broker, and stands where ssh stood.
//!
//! It starts in about the time of `/bin/true`: no configuration is read, no
//! runtime is started, and what needs either is `natssh-broker`, which it
//! becomes by exec. It exits 255 where ssh would: "could not reach".

mod ask;
mod broker;
mod call;
mod cli;
mod completions;
mod control;
mod exec;
mod pass_fd;
mod personality;
mod place;
mod program;
mod proxy;
mod real_ssh;
mod relay;
mod retry;
mod sessions;
mod socket;
mod ssh;
mod start;
mod status;
mod table;
mod tool;
mod voice;
mod watch;
mod why;
mod words;

use clap::Parser;
use cli::{Cli, Command, Sessions};
use natssh_wire::Failure;
use personality::Personality;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// The exit status of "could not reach", as ssh and Ansible know it.
const UNREACHABLE: u8 = 255;
/// The exit status of a question that no broker was there to answer.
const NO_BROKER: u8 = 3;

fn main() -> ExitCode {
    let begun = std::time::Instant::now();
    let all: Vec<OsString> = std::env::args_os().collect();
    let words = match personality::of(&all) {
        Personality::Ssh(words) => return ssh::run(words),
        Personality::Tool(tool, words) => return tool::run(tool, words),
        Personality::Natssh(words) => words,
    };
    if let Some(asked) = cli::proxy_alone(words) {
        return proxy::run(&asked, begun);
    }
    let named = std::iter::once(OsStr::new("natssh")).chain(words.iter().map(OsString::as_os_str));
    let cli = match Cli::try_parse_from(named) {
        Ok(cli) => cli,
        Err(usage) => return cli::explain(&usage, words),
    };
    let done = match cli.command {
        Command::Proxy(asked) => return proxy::run(&asked, begun),
        Command::Status { json, watch: None } => status::run(json),
        Command::Status { json, watch: Some(every) } => watch::run(json, every),
        Command::Why { host } => why::run(&host),
        Command::Retry { upstream } => retry::run(&upstream),
        Command::Sessions { json, close: None } => sessions::list(json),
        Command::Sessions { close: Some(Sessions::Close { host, .. }), .. } => {
            sessions::close(host.as_deref())
        }
        Command::Broker { command } => broker::run(&command),
        Command::SshConfig { words } => Err(program::become_with_broker("ssh-config", &words)),
        Command::Doctor { words } => Err(program::become_with_broker("doctor", &words)),
        Command::Identities { words } => Err(program::become_broker("identities", &words)),
        Command::Completions { shell } => completions::run(shell),
        Command::Config { words } => Err(program::become_broker("config", &words)),
        Command::Scp { words } => return tool::run("scp", &words),
        Command::Sftp { words } => return tool::run("sftp", &words),
        Command::Ssh { words } => return ssh::run(&words),
    };
    done.unwrap_or_else(|failure| complain(&failure, 1))
}

/// Says on stderr, in one line, what failed and what to type.
fn complain(failure: &Failure, status: u8) -> ExitCode {
    // eprintln! would panic where stderr is closed.
    let line = format!("natssh: {}\n", words::one_line(&failure.to_string()));
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    ExitCode::from(status)
}
