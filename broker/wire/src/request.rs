//! Requests of the local API as bytes, and what their `Natssh-*` headers mean.
//!
//! No I/O. Clients encode here; the broker, whose framing is hyper's, reads the
//! same headers with [`ConnectRequest::parse`] and [`check_protocol`].

use crate::exec::{EXEC_BODY_LIMIT, ExecRequest, UPGRADE};
use crate::{Failure, FailureKind, NodeAddr, PROTOCOL};
use std::time::Duration;

/// How long a caller waits for a stream when it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait that the broker grants: Ansible gives up after 10 s.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(9);

/// The header both sides send: the version of the local API.
pub const PROTOCOL_HEADER: &str = "Natssh-Protocol";
/// The caller's whole patience, in milliseconds.
pub const TIMEOUT_HEADER: &str = "Natssh-Timeout-Ms";
/// The caller's `SSH_AUTH_SOCK`: the broker outlives the shell that started it.
pub const AGENT_HEADER: &str = "Natssh-Agent";
/// Where the caller hears the verdict: [`Verdict`].
pub const VERDICT_HEADER: &str = "Natssh-Verdict";
/// The login name that the caller will use on the node (ssh's `%r`).
pub const LOGIN_HEADER: &str = "Natssh-Login";

/// Where a caller hears whether there is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// In the answer: 200 once the node's stream is open.
    #[default]
    InAnswer,
    /// In the stream, which belongs to a client that speaks SSH: 200 as soon as the upstream has been asked. A refusal
    /// after that is what an SSH server would say: an identification and SSH_MSG_DISCONNECT (RFC 4253, 4.2 and 11.1).
    InStream,
}

impl Verdict {
    /// The header's value; the default has none.
    const IN_STREAM: &str = "in-stream";
}

/// `CONNECT host:port`: open a stream to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Where to.
    pub node: NodeAddr,
    /// The caller's whole patience; at most [`MAX_TIMEOUT`].
    pub timeout: Duration,
    /// The absolute path of the caller's agent socket.
    pub agent: Option<String>,
    /// The login on the node.
    pub login: Option<String>,
    /// Where the verdict is told.
    pub verdict: Verdict,
}

impl ConnectRequest {
    /// A request with the default patience and nothing more.
    #[must_use]
    pub fn new(node: NodeAddr) -> Self {
        Self { node, timeout: DEFAULT_TIMEOUT, agent: None, login: None, verdict: Verdict::default() }
    }

    /// The request as it is sent.
    ///
    /// # Errors
    /// When a value would break the head: a control character, or a path or login that [`Self::parse`] refuses.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        let mut head = start("CONNECT", &self.node.to_string())?;
        header(&mut head, TIMEOUT_HEADER, &self.timeout.as_millis().to_string())?;
        if let Some(agent) = &self.agent {
            check_agent(agent)?;
            header(&mut head, AGENT_HEADER, agent)?;
        }
        if let Some(login) = &self.login {
            check_login(login)?;
            header(&mut head, LOGIN_HEADER, login)?;
        }
        if self.verdict == Verdict::InStream {
            header(&mut head, VERDICT_HEADER, Verdict::IN_STREAM)?;
        }
        head.push_str("\r\n");
        Ok(head.into_bytes())
    }

    /// Reads a request from its target (`host:port`) and its headers, looked up without regard to case.
    ///
    /// A patience above [`MAX_TIMEOUT`] is cut to it. The version is not looked at: see [`check_protocol`].
    ///
    /// # Errors
    /// A [`FailureKind::BadRequest`] that names the offending part.
    pub fn parse<'h>(target: &str, header: impl Fn(&str) -> Option<&'h str>) -> Result<Self, Failure> {
        let node = NodeAddr::parse(target).map_err(|e| bad(e.to_string()))?;
        let timeout = header(TIMEOUT_HEADER).map_or(Ok(DEFAULT_TIMEOUT), parse_timeout)?;
        let agent = header(AGENT_HEADER).map(|a| check_agent(a).map(|()| a.to_owned())).transpose()?;
        let login = header(LOGIN_HEADER).map(|l| check_login(l).map(|()| l.to_owned())).transpose()?;
        let verdict = header(VERDICT_HEADER).map_or(Ok(Verdict::InAnswer), parse_verdict)?;
        Ok(Self { node, timeout, agent, login, verdict })
    }
}

/// A `GET` whose connection closes after the answer.
///
/// # Errors
/// When `path` holds a blank or a control character; see [`percent_encode`].
pub fn encode_get(path: &str) -> Result<Vec<u8>, Failure> {
    let mut head = start("GET", path)?;
    head.push_str("Connection: close\r\n\r\n");
    Ok(head.into_bytes())
}

/// A `POST` without a body whose connection closes after the answer.
///
/// # Errors
/// When `path` holds a blank or a control character.
pub fn encode_post(path: &str) -> Result<Vec<u8>, Failure> {
    let mut head = start("POST", path)?;
    head.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    Ok(head.into_bytes())
}

/// A `DELETE` whose connection closes after the answer.
///
/// # Errors
/// When `path` holds a blank or a control character; see [`percent_encode`].
pub fn encode_delete(path: &str) -> Result<Vec<u8>, Failure> {
    let mut head = start("DELETE", path)?;
    head.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    Ok(head.into_bytes())
}

/// `POST /v1/exec`: once it is answered with 101, the connection carries frames.
///
/// # Errors
/// When the body is longer than [`EXEC_BODY_LIMIT`].
pub fn encode_exec(request: &ExecRequest) -> Result<Vec<u8>, Failure> {
    encode_call("/v1/exec", &format!("Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"), request)
}

/// `POST /v1/resolve`: what would become of that call.
///
/// # Errors
/// When the body is longer than [`EXEC_BODY_LIMIT`].
pub fn encode_resolve(request: &ExecRequest) -> Result<Vec<u8>, Failure> {
    encode_call("/v1/resolve", "Connection: close\r\n", request)
}

/// `POST /v1/control`: what `-O` in that call asks of the sessions that are kept.
///
/// # Errors
/// When the body is longer than [`EXEC_BODY_LIMIT`].
pub fn encode_control(request: &ExecRequest) -> Result<Vec<u8>, Failure> {
    encode_call("/v1/control", "Connection: close\r\n", request)
}

fn encode_call(path: &str, connection: &str, request: &ExecRequest) -> Result<Vec<u8>, Failure> {
    // Plain data with string keys cannot fail to become JSON.
    let body = serde_json::to_vec(request).unwrap_or_default();
    if body.len() > EXEC_BODY_LIMIT {
        return Err(bad(format!("words and environment take more than {} MiB", EXEC_BODY_LIMIT >> 20)));
    }
    let head = start("POST", path)?;
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    Ok([head.as_bytes(), connection.as_bytes(), length.as_bytes(), &body].concat())
}

/// A request that every version answers, because it says none: how a broker of another version is stopped.
///
/// # Errors
/// When `path` holds a blank or a control character.
pub fn encode_unversioned(method: &str, path: &str) -> Result<Vec<u8>, Failure> {
    check_target(path)?;
    Ok(format!("{method} {path} HTTP/1.1\r\nHost: natssh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into())
}

/// Writes a value for use in a query: everything but letters, digits and `-._~` becomes `%XX`.
#[must_use]
pub fn percent_encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The reverse of [`percent_encode`]; `None` for a broken escape or for bytes that are not UTF-8.
#[must_use]
pub fn percent_decode(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Judges the `Natssh-Protocol` of a peer's request: none is fine, so that curl is a client.
///
/// # Errors
/// A [`FailureKind::Version`] that says both versions.
pub fn check_protocol(header: Option<&str>) -> Result<(), Failure> {
    match header.map(str::trim) {
        None => Ok(()),
        Some(version) if version.parse() == Ok(PROTOCOL) => Ok(()),
        Some(version) => Err(Failure::new(
            FailureKind::Version,
            format!("this broker speaks version {PROTOCOL} of the local API, the caller {version:?}"),
        )
        .hint("natssh broker restart")),
    }
}

fn start(method: &str, target: &str) -> Result<String, Failure> {
    check_target(target)?;
    // HTTP/1.1 wants a Host; the socket has no name, so it names the program.
    let host = if method == "CONNECT" { target } else { "natssh" };
    Ok(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{PROTOCOL_HEADER}: {PROTOCOL}\r\n"))
}

fn check_target(target: &str) -> Result<(), Failure> {
    match !target.is_empty() && target.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(bad(format!("{target:?} cannot be asked for over HTTP"))),
    }
}

fn header(head: &mut String, name: &str, value: &str) -> Result<(), Failure> {
    if value.chars().any(char::is_control) {
        return Err(bad(format!("the value of {name} holds a control character")));
    }
    head.push_str(&format!("{name}: {value}\r\n"));
    Ok(())
}

fn parse_timeout(text: &str) -> Result<Duration, Failure> {
    match text.parse::<u64>() {
        Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis).min(MAX_TIMEOUT)),
        _ => Err(bad(format!("{TIMEOUT_HEADER} {text:?} is not a number of milliseconds above 0"))),
    }
}

fn parse_verdict(text: &str) -> Result<Verdict, Failure> {
    match text {
        Verdict::IN_STREAM => Ok(Verdict::InStream),
        _ => Err(bad(format!("{VERDICT_HEADER} {text:?} is not {:?}", Verdict::IN_STREAM))),
    }
}

fn check_agent(path: &str) -> Result<(), Failure> {
    let fine = path.starts_with('/') && path == path.trim_end() && !path.chars().any(char::is_control);
    if fine { Ok(()) } else { Err(bad(format!("{AGENT_HEADER} {path:?} is not an absolute path"))) }
}

fn check_login(login: &str) -> Result<(), Failure> {
    let fine = !login.is_empty()
        && login == login.trim()
        && login.len() <= 255
        && !login.chars().any(char::is_control);
    if fine { Ok(()) } else { Err(bad(format!("{LOGIN_HEADER} {login:?} is not a login name"))) }
}

fn bad(message: String) -> Failure {
    Failure::new(FailureKind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_of_ssh_is_these_bytes() {
        let call = ExecRequest { words: vec!["web".into(), "true".into()], ..ExecRequest::default() };
        let body = r#"{"words":["web","true"],"directory":"","environment":[],"terminals":{"stdin":false,"stdout":false,"stderr":false}}"#;
        let expected = format!(
            "POST /v1/exec HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: 1\r\nConnection: Upgrade\r\nUpgrade: natssh-exec\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(encode_exec(&call).unwrap()).unwrap(), expected);
        assert!(encode_resolve(&call).unwrap().starts_with(b"POST /v1/resolve HTTP/1.1\r\n"));
        let long = ExecRequest { words: vec![vec![b'x'; EXEC_BODY_LIMIT].into()], ..call };
        assert_eq!(encode_exec(&long).unwrap_err().kind, FailureKind::BadRequest);
    }

    #[test]
    fn a_connect_request_is_these_bytes() {
        let request = ConnectRequest {
            agent: Some("/tmp/ssh-1/agent.2".into()),
            login: Some("root".into()),
            verdict: Verdict::InStream,
            ..request("web-3.example.com")
        };
        let expected = "CONNECT web-3.example.com:22 HTTP/1.1\r\nHost: web-3.example.com:22\r\nNatssh-Protocol: 1\r\n\
             Natssh-Timeout-Ms: 5000\r\nNatssh-Agent: /tmp/ssh-1/agent.2\r\nNatssh-Login: root\r\n\
             Natssh-Verdict: in-stream\r\n\r\n";
        assert_eq!(String::from_utf8(request.encode().unwrap()).unwrap(), expected);
        let get =
            "GET /v1/status HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: 1\r\nConnection: close\r\n\r\n";
        assert_eq!(encode_get("/v1/status").unwrap(), get.as_bytes());
    }

    #[test]
    fn patience_is_bounded_and_wrong_values_are_named() {
        assert_eq!(parse("n:22", &[]).unwrap(), request("n"));
        assert_eq!(parse("n:22", &[("natssh-timeout-ms", "60000")]).unwrap().timeout, MAX_TIMEOUT);
        for (target, headers, word) in [
            ("n", &[][..], "no port"),
            ("n:0", &[], "port"),
            ("a@n:22", &[], "'@'"),
            ("n:22", &[("Natssh-Timeout-Ms", "0")], "Natssh-Timeout-Ms"),
            ("n:22", &[("Natssh-Timeout-Ms", "5s")], "Natssh-Timeout-Ms"),
            ("n:22", &[("Natssh-Agent", "agent.2")], "Natssh-Agent"),
            ("n:22", &[("Natssh-Login", "")], "Natssh-Login"),
            ("n:22", &[("Natssh-Verdict", "in-answer")], "Natssh-Verdict"),
        ] {
            let failure = parse(target, headers).unwrap_err();
            assert_eq!(failure.kind, FailureKind::BadRequest);
            assert!(failure.message.contains(word), "{failure} lacks {word}");
        }
    }

    #[test]
    fn only_another_version_is_refused() {
        assert!(check_protocol(None).is_ok());
        assert!(check_protocol(Some("1")).is_ok());
        for other in ["2", "0", "", "one"] {
            let failure = check_protocol(Some(other)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Version);
            assert_eq!(failure.hint.as_deref(), Some("natssh broker restart"));
        }
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_it_was(
            host in "[a-zA-Z0-9_.-]{1,40}|[0-9a-f]{1,4}::[0-9a-f]{1,4}", port in 1..=u16::MAX,
            millis in 1..9000u64,
            agent in prop::option::of("/[^\\pC\\s]{0,30}"), login in prop::option::of("[^\\pC\\s]{1,20}"),
            verdict in prop::sample::select(vec![Verdict::InAnswer, Verdict::InStream]),
        ) {
            let node = NodeAddr::new(&host, &port.to_string()).unwrap();
            let request = ConnectRequest { node, timeout: Duration::from_millis(millis), agent, login, verdict };
            let (target, headers) = read_back(&request.encode().unwrap());
            let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(parse(&target, &pairs).unwrap(), request);
        }

        #[test]
        fn no_value_adds_a_header(agent: String, login: String, target in "\\PC*[\\r\\n\\x00 ]\\PC*") {
            let request = ConnectRequest { agent: Some(agent), login: Some(login), ..request("n") };
            if let Ok(head) = request.encode() {
                prop_assert_eq!(head.iter().filter(|b| **b == b'\n').count(), 7);
            }
            prop_assert!(encode_get(&target).is_err());
            prop_assert!(encode_post(&target).is_err());
            prop_assert!(encode_delete(&target).is_err());
            prop_assert!(encode_unversioned("POST", &target).is_err());
        }

        #[test]
        fn a_query_value_reads_back_as_it_was(value: String) {
            let encoded = percent_encode(&value);
            let path = format!("/v1/failures?node={encoded}");
            prop_assert!(encode_get(&path).is_ok());
            prop_assert_eq!(percent_decode(&encoded), Some(value));
        }

        #[test]
        fn no_escape_makes_the_reader_panic(value: String) {
            let _ = percent_decode(&value);
        }
    }

    fn request(host: &str) -> ConnectRequest {
        ConnectRequest::new(NodeAddr::new(host, "22").unwrap())
    }

    /// The target and the headers of an encoded request, read as a server would.
    fn read_back(head: &[u8]) -> (String, Vec<(String, String)>) {
        let text = String::from_utf8(head.to_vec()).unwrap();
        let (first, rest) = text.strip_suffix("\r\n\r\n").unwrap().split_once("\r\n").unwrap();
        let target = first.strip_prefix("CONNECT ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
        let headers = rest.split("\r\n").map(|l| l.split_once(": ").unwrap());
        (target.into(), headers.map(|(n, v)| (n.into(), v.into())).collect())
    }

    fn parse(target: &str, headers: &[(&str, &str)]) -> Result<ConnectRequest, Failure> {
        let find = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
        ConnectRequest::parse(target, find)
    }
}
