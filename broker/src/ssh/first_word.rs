//! The first bytes of a server that is no SSH server, understood.
//!
//! A wrong port is the commonest mistake in an address, and most other servers
//! answer an SSH client in a way that tells them. Pure.

/// What is wrong with a server that begins like this; none while it may be an SSH server. RFC 4253 §4.2 lets
/// one send lines of text before its own.
pub(super) fn objection(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"HTTP/") {
        return Some("a web server answers there, and no SSH server");
    }
    // An alert or a handshake record, of any version (RFC 8446 §5.1).
    if matches!(bytes, [0x15 | 0x16, 0x03, ..]) {
        return Some(
            "a TLS server answers there, and no SSH server; a Teleport proxy with TLS routing needs tls_routing = true",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_and_tls_servers_are_told_from_those_that_may_be_ssh() {
        assert!(objection(b"HTTP/1.1 400 Bad Request\r\n").is_some_and(|text| text.contains("web server")));
        assert!(objection(b"\x15\x03\x01\x00\x02\x02\x46").is_some_and(|text| text.contains("TLS")));
        for fine in [&b""[..], b"S", b"SSH-2.0-Teleport\r\n", b"a line before it\r\n", b"\x15"] {
            assert_eq!(objection(fine), None, "{fine:?}");
        }
    }
}
