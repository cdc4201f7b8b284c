//! `natssh-lab`: brings a lab up, asks it, breaks it, takes it down.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use natssh_lab::cleanup;
use natssh_lab::cli::{Cli, Command};
use natssh_lab::control::{Reply, Request, Status, demand};
use natssh_lab::node::{AgentFile, init};
use natssh_lab::state::Folder;
use natssh_lab::{agent, daemon, enter};
use tokio::io::AsyncReadExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let own = || Targets::new().with_default(LevelFilter::WARN).with_target("natssh_lab", LevelFilter::INFO);
    let wanted = std::env::var("NATSSH_LAB_LOG").ok().and_then(|words| words.parse().ok());
    let lines = fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    registry().with(lines).with(wanted.unwrap_or_else(own)).init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("natssh-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if let Command::Agent { file } = &cli.command {
        return dial_out(file);
    }
    let folder = Folder::choose(cli.state)?;
    match cli.command {
        Command::Up(wanted) => {
            daemon::up(&folder, &wanted, |step| eprintln!("natssh-lab: {step}"))?;
            print!("{}", status(&folder)?);
            eprintln!(
                "natssh-lab: ready; type: eval \"$(natssh-lab env --state {})\"",
                folder.path().display()
            );
        }
        Command::Down => match cleanup::down(&folder)? {
            None => println!("no lab in {}", folder.path().display()),
            Some(removed) => {
                println!("{removed}\nremoved the lab's files in {}", folder.path().display());
                eprintln!("natssh-lab: variables that `natssh-lab env` set in your shell are still set");
            }
        },
        Command::Status { json } => {
            let status = status(&folder)?;
            match json {
                true => println!("{}", serde_json::to_string_pretty(&status)?),
                false => print!("{status}"),
            }
        }
        Command::Env => {
            status(&folder)?;
            let path = folder.env();
            let lines = std::fs::read_to_string(&path);
            print!("{}", lines.with_context(|| format!("read {}", path.display()))?);
        }
        Command::Exec { node, command } => enter::exec(&folder, &status(&folder)?, &node, &command)?,
        Command::Fault(fault) => match demand(&folder, &Request::Fault(fault))? {
            Reply::Done(words) => println!("{words}"),
            other => bail!("the lab answered something else: {other:?}"),
        },
        Command::Supervise(wanted) => daemon::supervise(folder, &wanted)?,
        Command::Node { name } => init::run(&folder, &name)?,
        Command::Agent { .. } => unreachable!("it was started above: it needs no folder"),
    }
    Ok(())
}

fn status(folder: &Folder) -> Result<Status> {
    match demand(folder, &Request::Status)? {
        Reply::Status(status) => Ok(status),
        other => bail!("the lab answered something else: {other:?}"),
    }
}

/// A node's agent, until its supervisor's end of stdin is closed.
fn dial_out(orders: &Path) -> Result<()> {
    let options = AgentFile::read(orders)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stdin = tokio::net::unix::pipe::Receiver::from_owned_fd(rustix::io::dup(std::io::stdin())?)?;
        let mut nothing = [0];
        tokio::select! {
            never = agent::run(options) => match never {},
            _ = stdin.read(&mut nothing) => Ok(()),
        }
    })
}
