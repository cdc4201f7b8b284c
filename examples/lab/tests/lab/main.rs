//! Whole labs, with the real `ssh`, `scp` and `sftp` of the system: brought up
//! both ways, broken on purpose, and gone without a trace.

mod faults;
mod harness;
mod leftovers;
mod ordinary_user;
mod reach;
