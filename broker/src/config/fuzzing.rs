//! What the reader of natssh.toml keeps to. See [`crate::fuzzing`].

use super::known::{Known, TshProfile};
use super::{checked, resolve, show};
use natssh_wire::NodeAddr;
use std::path::Path;

/// A configuration: one that passes the checks resolves, and shown resolved it means the same again.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::new("natssh.toml");
    let profile = TshProfile {
        name: "teleport.example.com".into(),
        proxy_host: "teleport.example.com".into(),
        ssh_proxy: NodeAddr { host: "teleport.example.com".into(), port: 3023 },
        tls_routing: None,
        cluster: "example".into(),
    };
    let known = Known {
        home: "/home/me".into(),
        tsh_home: "/home/me/.tsh".into(),
        current: Some(profile),
        ..Known::default()
    };
    let file = match checked(path, &text, &["teleport.example.com"]) {
        Ok(file) => file,
        Err(complaints) => {
            assert!(!complaints.to_failure().message.is_empty());
            return;
        }
    };
    let settings = resolve::resolve(Some(path), &file, &known);
    for host in ["web", "web.example", "teleport.example.com"] {
        let picked = settings.routes.pick(&NodeAddr { host: host.into(), port: 22 });
        assert!(settings.upstreams.contains_key(&picked.upstream), "{host} goes to {}", picked.upstream);
    }
    let shown = show::show(&settings, &file);
    if let Err(complaints) = checked(path, &shown, &["teleport.example.com"]) {
        panic!("what was shown is refused: {complaints}\n{shown}");
    }
}
