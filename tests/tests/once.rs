//! Nothing is run twice, and nothing is reported as done that was not, whatever dies under it and when.

use natssh_lab::Fault;
use natssh_lab::faults::ProxyFault;
use natssh_tests::wait::{PATIENCE, within};
use natssh_tests::{Plan, World, need, run};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Callers at a time.
const CALLERS: usize = 6;

#[test]
fn a_proxy_that_dies_ten_times_makes_no_command_run_twice() {
    need!("ssh", "sshd");
    die_under_load(10);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn a_proxy_that_dies_a_hundred_times_makes_no_command_run_twice() {
    need!("ssh", "sshd");
    die_under_load(100);
}

/// How a call ended.
#[derive(Debug)]
struct Ended {
    number: usize,
    code: Option<i32>,
    stderr: String,
}

/// Each command appends its number to a file on the node and ends with a status of its own.
fn die_under_load(deaths: usize) {
    let world = Plan::new().start();
    let file = world.path().join("numbers");
    let (next, through, over) = (AtomicUsize::new(1), AtomicUsize::new(0), AtomicBool::new(false));
    let mut moments = Moments::new();
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut ended = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let one = append(&world, next.fetch_add(1, Ordering::Relaxed), &file);
                        through.fetch_add(usize::from(one.code == Some(7)), Ordering::Relaxed);
                        ended.push(one);
                    }
                    ended
                })
            })
            .collect();
        for death in 0..deaths {
            // However slow the machine is, something gets through between two deaths.
            let before = through.load(Ordering::Relaxed);
            let more = || (through.load(Ordering::Relaxed) > before).then_some(());
            if within(PATIENCE, more).is_none() {
                over.store(true, Ordering::Relaxed);
                panic!("seed {}: nothing gets through after death {death}", moments.seed);
            }
            std::thread::sleep(moments.within(Duration::from_millis(400)));
            if death % 3 == 2 {
                world.fault(Fault::Proxy(ProxyFault::Cut));
            } else {
                world.fault(Fault::Proxy(ProxyFault::Stop));
                std::thread::sleep(moments.within(Duration::from_millis(60)));
                world.fault(Fault::Proxy(ProxyFault::Start));
            }
        }
        over.store(true, Ordering::Relaxed);
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller lives")).collect()
    });

    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for line in fs::read_to_string(&file).expect("some have run").lines() {
        *times.entry(line.parse().expect("whole lines")).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {}: run twice: {twice:?}", moments.seed);
    for Ended { number, code, stderr } in &ended {
        match code {
            Some(7) => {
                assert!(
                    times.contains_key(number),
                    "seed {}: {number} is reported and was not run",
                    moments.seed
                );
            }
            Some(255) => {
                assert!(stderr.starts_with("natssh: "), "an end without a reason: {stderr:?}");
            }
            other => panic!("seed {}: {number} ended with {other:?}: {stderr}", moments.seed),
        }
    }
    let after = append(&world, usize::MAX, &file);
    assert_eq!(after.code, Some(7), "{}", after.stderr);
}

fn append(world: &World, number: usize, file: &std::path::Path) -> Ended {
    let command = format!("echo {number} >>{}; exit 7", file.display());
    let mut call = world.natssh(&["-F"]);
    call.arg(world.ssh_config_path()).args(["control-plane", &command]);
    let begun = Instant::now();
    let said = run(call);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{number} took {:?}: {}",
        begun.elapsed(),
        said.stderr
    );
    Ended { number, code: said.code, stderr: said.stderr }
}

/// Moments nobody could choose, from a seed that a failure tells.
struct Moments {
    seed: u64,
    state: u64,
}

impl Moments {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seed = now.subsec_nanos().into();
        Self { seed, state: seed | 1 }
    }

    /// xorshift64 (Marsaglia, 2003).
    fn within(&mut self, limit: Duration) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        limit.mul_f64((self.state % 1000) as f64 / 1000.0)
    }
}
