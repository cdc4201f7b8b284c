//! The faults, in the order of the table.

use std::time::Duration;

use bytes::Bytes;
use natssh_lab::faults::CertFault;
use natssh_lab::relay::Then;
use natssh_tests::Said;

use crate::certificate::{certificate, swapped, torn};
use crate::ground::Ground;
use crate::machine::{asleep, broker_killed, descriptors_used_up, full_log, no_names};
use crate::path::{a_moment, ask, forgotten, in_mid_stream, killed, says, spoilt, trickling};

/// One line of the table.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Brings it about, asks, and takes away what is not the path's.
    pub(crate) bring: fn(&Ground) -> Result<Outcome, String>,
    /// Whether a command may work in spite of it.
    pub(crate) survivable: bool,
    /// Words that name the culprit, besides the address of the first hop and the node's name.
    pub(crate) words: &'static [&'static str],
    /// Whether it belongs to the part that runs with the other tests.
    pub(crate) quick: bool,
}

/// What a fault led to.
pub(crate) enum Outcome {
    /// A command was asked for, and ended so.
    Said(Said),
    /// Something else was looked at, and was as it should be.
    Seen(String, Duration),
    /// There is nothing to break here; the reason.
    Nothing(&'static str),
}

/// What most are: a command fails, with a reason that names the first hop or the node.
const REFUSED: Fault =
    Fault { name: "", bring: |_| Ok(Outcome::Nothing("")), survivable: false, words: &[], quick: false };

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "first hop killed", bring: killed, quick: true, ..REFUSED },
    Fault {
        name: "path reset, and again on every dial",
        bring: |g| {
            g.path().cut();
            ask(g)
        },
        ..REFUSED
    },
    Fault {
        name: "path silent",
        bring: |g| {
            g.path().freeze();
            ask(g)
        },
        ..REFUSED
    },
    Fault { name: "reset before the banner", bring: |g| spoilt(g, 0, Then::Reset), ..REFUSED },
    Fault { name: "reset in the banner", bring: |g| spoilt(g, 10, Then::Reset), quick: true, ..REFUSED },
    Fault { name: "reset in the key exchange", bring: |g| spoilt(g, 400, Then::Reset), ..REFUSED },
    Fault { name: "reset at the host key", bring: |g| spoilt(g, 1300, Then::Reset), quick: true, ..REFUSED },
    Fault {
        name: "reset in authentication",
        bring: |g| spoilt(g, 2050, Then::Reset),
        survivable: true,
        ..REFUSED
    },
    Fault { name: "end of file in the key exchange", bring: |g| spoilt(g, 400, Then::End), ..REFUSED },
    Fault { name: "half-open: accepted, then silence", bring: |g| spoilt(g, 0, Then::Silence), ..REFUSED },
    Fault {
        name: "silence in the key exchange",
        bring: |g| spoilt(g, 400, Then::Silence),
        quick: true,
        ..REFUSED
    },
    Fault { name: "a byte every 100 ms", bring: trickling, ..REFUSED },
    Fault {
        name: "a byte each millisecond",
        bring: |g| spoilt(g, 0, Then::Trickle(Duration::from_millis(1))),
        survivable: true,
        ..REFUSED
    },
    Fault {
        name: "a web server answers",
        bring: |g| says(g, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        words: &["web server"],
        quick: true,
        ..REFUSED
    },
    Fault { name: "a mail server answers", bring: |g| says(g, b"220 mail.example.com ESMTP\r\n"), ..REFUSED },
    Fault {
        name: "a TLS server answers",
        bring: |g| says(g, b"\x15\x03\x01\x00\x02\x02\x46"),
        words: &["TLS"],
        ..REFUSED
    },
    Fault { name: "garbage instead of a banner", bring: |g| says(g, &[0xa5; 4096]), ..REFUSED },
    Fault {
        name: "garbage in the key exchange",
        bring: |g| spoilt(g, 400, Then::Say(Bytes::from_static(&[0xa5; 4096]))),
        ..REFUSED
    },
    Fault {
        name: "a packet of 4 GiB announced",
        bring: |g| says(g, b"SSH-2.0-OpenSSH_9.2\r\n\xff\xff\xff\xff\x04\x14"),
        ..REFUSED
    },
    Fault {
        name: "cut in mid-stream",
        bring: |g| in_mid_stream(g, |g| g.path().cut()),
        quick: true,
        ..REFUSED
    },
    Fault { name: "silent in mid-stream", bring: |g| in_mid_stream(g, |g| g.path().freeze()), ..REFUSED },
    Fault { name: "NAT forgets the connection (other port)", bring: forgotten, ..REFUSED },
    Fault { name: "silent for a moment", bring: a_moment, ..REFUSED },
    Fault {
        name: "certificate expired",
        bring: |g| certificate(g, CertFault::Expire),
        words: &["expired"],
        ..REFUSED
    },
    Fault { name: "certificate swapped", bring: swapped, ..REFUSED },
    Fault { name: "certificate torn", bring: torn, words: &["-cert.pub"], survivable: true, ..REFUSED },
    Fault {
        name: "descriptors used up",
        bring: descriptors_used_up,
        words: &["open files"],
        survivable: true,
        ..REFUSED
    },
    Fault { name: "log on a full disk", bring: full_log, survivable: true, ..REFUSED },
    Fault {
        name: "names no longer resolve",
        bring: no_names,
        words: &["resolve", "lookup", "name"],
        ..REFUSED
    },
    Fault { name: "broker killed with -9 in mid-run", bring: broker_killed, ..REFUSED },
    Fault { name: "clock jumps ahead (machine asleep)", bring: asleep, survivable: true, ..REFUSED },
];
