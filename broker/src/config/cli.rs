//! `natssh config check` and `natssh config show`.

use super::{Complaints, Environment, Settings, load_with_file, show};

/// Says in one line that all is well and what it found.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn check(env: &Environment) -> Result<String, Complaints> {
    let (settings, _) = load_with_file(env)?;
    let mut lines: Vec<String> =
        settings.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    lines.push(summary(env, &settings));
    Ok(lines.join("\n"))
}

/// The resolved configuration as TOML.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn show(env: &Environment) -> Result<String, Complaints> {
    let (settings, file) = load_with_file(env)?;
    Ok(show::show(&settings, &file))
}

fn summary(env: &Environment, settings: &Settings) -> String {
    let place = match (&settings.path, env.config_path()) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(path)) => format!("no file at {}, none is needed", path.display()),
        (None, None) => "no file, none is needed".into(),
    };
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let upstreams = count(settings.upstreams.len(), "upstream");
    let rules = count(settings.routes.rules.len(), "rule");
    format!("ok: {place} ({upstreams}, {rules})")
}
