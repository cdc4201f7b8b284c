//! What the reader of ansible.cfg keeps to. See [`crate::fuzzing`].

use super::ansible::{Ansible, judge};
use crate::fuzzing::is_one_line;

/// An ansible.cfg: whatever it holds, what is said of it fits on lines.
pub fn ansible_cfg(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut ansible = Ansible::default();
    ansible.file = Some(("ansible.cfg".into(), Some(text)));
    for finding in judge(&ansible) {
        is_one_line(&finding.message);
    }
}
