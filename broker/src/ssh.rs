//! One authenticated SSH connection over any byte stream.

pub mod host_key;
