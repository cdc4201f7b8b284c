//! The log: to stderr in the foreground, to a rotated file in the background.
//!
//! `NATSSH_LOG` filters (`info` by default, `debug`, `natssh_broker::upstream=trace`),
//! `NATSSH_LOG_FORMAT=json` writes JSON. Commands, payload, environment and
//! secrets are never logged.

use std::path::Path;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

/// One file a day, and so many days.
const DAYS: usize = 7;
/// Lines that wait for a disk that stands still; what comes then is lost.
const WAITING: usize = 1000;

/// Starts logging; `file` is the path that always names today's log, or none for stderr. What is logged reaches the
/// file by a thread of its own, which is done when the guard is dropped: nobody waits for a disk to tell something.
///
/// # Errors
/// A file that cannot be written, or a filter that makes no sense; one sentence.
pub fn start(file: Option<&Path>) -> Result<Option<WorkerGuard>, String> {
    let words = std::env::var("NATSSH_LOG").unwrap_or_default();
    let words = if words.is_empty() { "info".into() } else { words };
    // The SSH library tells of each packet at its debug level.
    let filter = format!("russh=warn,{words}")
        .parse::<Targets>()
        .map_err(|error| format!("NATSSH_LOG={words:?} is no log filter: {error}"))?;
    let Some(path) = file else {
        init(filter, std::io::stderr);
        return Ok(None);
    };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING).thread_name("log");
    let (lines, guard) = builder.finish(daily(path)?);
    init(filter, lines);
    Ok(Some(guard))
}

fn init(filter: Targets, writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) {
    // A line that cannot be written, because the disk is full, is lost. The library would say so with
    // eprintln!, which panics when that cannot be written either.
    let lines = fmt::layer().log_internal_errors(false).with_writer(writer).with_target(false);
    if std::env::var("NATSSH_LOG_FORMAT").is_ok_and(|format| format == "json") {
        registry().with(lines.json()).with(filter).init();
    } else {
        registry().with(lines.with_ansi(false)).with(filter).init();
    }
}

fn daily(path: &Path) -> Result<RollingFileAppender, String> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is no file for a log", path.display()));
    };
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(name)
        .latest_symlink(name)
        .max_log_files(DAYS)
        .build(folder)
        .map_err(|error| format!("the log {} cannot be written: {error}", path.display()))
}
