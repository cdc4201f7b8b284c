//! The value of `-W`: `host:port`.

use crate::NodeAddr;

/// What `parse_forward` in readconf.c makes of it, as far as natssh takes it: a host and the number of a port, either
/// of them perhaps in square brackets. The name of a service, a path and backslashes are left to ssh.
pub(super) fn target(value: &[u8]) -> Option<NodeAddr> {
    let value = std::str::from_utf8(value).ok()?;
    let (host, rest) = field(value)?;
    let (port, rest) = field(rest?)?;
    let plain = !value.contains(['/', '\\']) && port.bytes().all(|byte| byte.is_ascii_digit());
    (plain && rest.is_none()).then(|| NodeAddr::new(host, port).ok())?
}

/// `parse_fwd_field`: up to a colon, and what follows it; in brackets, a colon may be part of it.
fn field(text: &str) -> Option<(&str, Option<&str>)> {
    let Some(inner) = text.strip_prefix('[') else {
        return Some(text.split_once(':').map_or((text, None), |(field, rest)| (field, Some(rest))));
    };
    let (field, rest) = inner.split_once(']')?;
    match rest.strip_prefix(':') {
        Some(rest) => Some((field, Some(rest))),
        None => rest.is_empty().then_some((field, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_read_as_ssh_reads_them() {
        for (value, host, port) in [
            ("db:5432", "db", 5432),
            ("10.0.0.1:22", "10.0.0.1", 22),
            ("[db]:22", "db", 22),
            ("[::1]:22", "::1", 22),
            ("[fe80::1]:[22]", "fe80::1", 22),
            ("db:022", "db", 22),
        ] {
            assert_eq!(target(value.as_bytes()), Some(NodeAddr { host: host.into(), port }), "{value}");
        }
        for value in [
            "",
            "db",
            "db:",
            ":22",
            "22",
            "db:ssh",
            "db:0",
            "db:65536",
            "db:-1",
            "::1:22",
            "[::1]",
            "[::1]x:22",
        ] {
            assert_eq!(target(value.as_bytes()), None, "{value}");
        }
        for value in ["/run/db.sock", "db:22:x", "[db:22", " db:22", "d\\b:22", "db:22 ", "[[::1]]:22"] {
            assert_eq!(target(value.as_bytes()), None, "{value}");
        }
        assert_eq!(target(b"d\xff:22"), None);
    }
}
