//! The programs under test: `natssh`, `natssh-broker`, `natssh-lab`.
//!
//! Cargo builds only a crate's own programs for its tests, so these are built
//! here, once a test process; when they are fresh that is a moment. With
//! `NATSSH_BIN_DIR` set they are taken from there as they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder that holds them.
///
/// # Panics
/// When they cannot be built.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("NATSSH_BIN_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => build(),
    })
}

/// One of them.
///
/// # Panics
/// When it is not there.
pub fn path(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(path.is_file(), "{} is missing; type: cargo build --workspace --bins", path.display());
    path
}

/// Builds them into the folder and by the profile of this test.
fn build() -> PathBuf {
    let me = std::env::current_exe().expect("a test knows its own file");
    let folder = me.ancestors().nth(2).expect("cargo puts tests into target/PROFILE/deps");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells a test of itself would make some crates' build scripts
    // run again, here and then outside of here.
    for (name, _) in std::env::vars_os() {
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start));
        if told {
            command.env_remove(name);
        }
    }
    let built = command
        .args(["build", "--quiet", "--profile", profile])
        .args(["-p", "natssh", "-p", "natssh-broker", "-p", "natssh-lab"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.expect("cargo starts").success(), "the programs under test do not build");
    folder.to_owned()
}
