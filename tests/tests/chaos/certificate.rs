//! Faults of the user's certificate.

use std::time::Instant;

use natssh_lab::Fault as LabFault;
use natssh_lab::faults::CertFault;

use crate::faults::Outcome;
use crate::ground::{Ground, has_trunks};

pub(crate) fn certificate(ground: &Ground, fault: CertFault) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    ground.world.fault(LabFault::Cert(fault));
    // What is open already outlives its certificate; what is dialled does not.
    ground.path().cut();
    ground.path().resume();
    let said = ground.ask("asked");
    ground.world.fault(LabFault::Cert(CertFault::Replace));
    Ok(Outcome::Said(said))
}

/// A new login in mid-run: what runs goes on, what is new uses the new key.
pub(crate) fn swapped(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    let held = ground.hold();
    let since = Instant::now();
    ground.world.fault(LabFault::Cert(CertFault::Replace));
    let said = ground.ask("asked");
    if said.code != Some(0) {
        return Err(format!("a new command fails: {}", said.stderr));
    }
    match held.end().code {
        Some(0) => Ok(Outcome::Seen("nobody notices".into(), since.elapsed())),
        other => Err(format!("the command that ran ended with {other:?}")),
    }
}

/// Half of the certificate, as while it is being written.
pub(crate) fn torn(ground: &Ground) -> Result<Outcome, String> {
    if !has_trunks(ground.way) {
        return Ok(Outcome::Nothing("no identity is used here"));
    }
    let path = cluster_certificate(&ground.world.credentials.tsh())?;
    let whole = std::fs::read(&path).map_err(|error| error.to_string())?;
    std::fs::write(&path, &whole[..whole.len() / 2]).map_err(|error| error.to_string())?;
    ground.path().cut();
    ground.path().resume();
    let said = ground.ask("asked");
    std::fs::write(&path, whole).map_err(|error| error.to_string())?;
    Ok(Outcome::Said(said))
}

/// The user's certificate in tsh's folder.
fn cluster_certificate(folder: &std::path::Path) -> Result<std::path::PathBuf, String> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with("-cert.pub") => return Ok(path),
                false => {}
            }
        }
    }
    Err("tsh's folder holds no certificate".into())
}
