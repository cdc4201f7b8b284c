//! What both sides of the local API must agree on, byte for byte, as files: the collection's tests under `ansible/tests` read the
//! same ones.

use natssh_wire::frame::{FromBroker, FromClient, Output};
use natssh_wire::paths::Environment;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Frames {
    client: Vec<Frame>,
    broker: Vec<Frame>,
    no_frames_of_the_broker: Vec<String>,
}

#[derive(Deserialize)]
struct Frame {
    frame: String,
    carries: String,
    bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    uid: u32,
    hostname: String,
    run_user: bool,
    #[serde(rename = "HOME")]
    home: Option<PathBuf>,
    #[serde(rename = "XDG_STATE_HOME")]
    xdg_state_home: Option<PathBuf>,
    #[serde(rename = "NATSSH_SOCKET")]
    natssh_socket: Option<PathBuf>,
    socket: Option<PathBuf>,
    refused: Option<String>,
}

fn frames() -> Frames {
    serde_json::from_str(include_str!("golden/frames.json")).expect("our own file")
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn the_clients_frames_are_those_of_the_file() {
    for Frame { frame, carries, bytes } in frames().client {
        let (carried, bytes) = (hex(&carries), hex(&bytes));
        let meant = match (frame.as_str(), carried.as_slice()) {
            ("stdin", carried) => FromClient::Stdin(carried),
            ("stdin_end", []) => FromClient::StdinEnd,
            ("closed", [0x11]) => FromClient::Closed(Output::Stdout),
            ("closed", [0x12]) => FromClient::Closed(Output::Stderr),
            ("signal", name) => FromClient::Signal(text(name)),
            _ => panic!("{frame}"),
        };
        let mut encoded = Vec::new();
        meant.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{frame}");
        assert_eq!(FromClient::decode(&bytes), Ok(Some((meant, bytes.len()))));
    }
}

#[test]
fn the_brokers_frames_are_those_of_the_file() {
    for Frame { frame, carries, bytes } in frames().broker {
        let (carried, bytes) = (hex(&carries), hex(&bytes));
        let meant = match (frame.as_str(), carried.as_slice()) {
            ("stdout", carried) => FromBroker::Output(Output::Stdout, carried),
            ("stderr", carried) => FromBroker::Output(Output::Stderr, carried),
            ("debug", [level, line @ ..]) => FromBroker::Debug(*level, text(line)),
            ("exit", &[a, b, c, d]) => FromBroker::Exit(u32::from_be_bytes([a, b, c, d])),
            ("killed", name) => FromBroker::Killed(text(name)),
            ("failed", json) => FromBroker::Failed(json),
            ("no_terminal", []) => FromBroker::NoTerminal,
            ("stdout_end", []) => FromBroker::StdoutEnd,
            _ => panic!("{frame}"),
        };
        let mut encoded = Vec::new();
        meant.encode(&mut encoded);
        assert_eq!(encoded, bytes, "{frame}");
        assert_eq!(FromBroker::decode(&bytes), Ok(Some((meant, bytes.len()))));
    }
    for bytes in frames().no_frames_of_the_broker {
        assert!(FromBroker::decode(&hex(&bytes)).is_err(), "{bytes}");
    }
}

#[test]
fn the_socket_is_where_the_file_says() {
    let places: Vec<Place> = serde_json::from_str(include_str!("golden/paths.json")).expect("our own file");
    for place in places {
        let environment = Environment {
            natssh_socket: place.natssh_socket,
            xdg_state_home: place.xdg_state_home,
            home: place.home,
            uid: place.uid,
            hostname: place.hostname,
            has_run_user: place.run_user,
        };
        match (environment.paths(), place.socket, place.refused) {
            (Ok(paths), Some(socket), None) => assert_eq!(paths.socket, socket),
            (Err(failure), None, Some(words)) => {
                // The limit is the system's.
                let words = if cfg!(target_os = "linux") { words } else { words.replace("107", "103") };
                assert!(failure.message.contains(&words), "{failure}");
            }
            (found, socket, refused) => panic!("{found:?}, and not {socket:?} or {refused:?}"),
        }
    }
}
