//! The relay for callers that take no descriptor: every byte, both ways at once, both ends of each direction.

mod fake;

use fake::{CONNECTED, FakeBroker, SEED, checksum, drain, noise};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::process::Stdio;
use std::sync::mpsc::channel;

const BIG: usize = 100 * 1024 * 1024;

fn sum_of(seed: u64) -> (usize, u64) {
    noise(seed, BIG).fold((0, SEED), |(length, sum), chunk| (length + chunk.len(), checksum(sum, &chunk)))
}

#[test]
fn a_hundred_megabytes_pass_each_way_at_once() {
    let (sender, arrived) = channel();
    let broker = FakeBroker::serve(move |mut stream| {
        stream.write_all(CONNECTED).unwrap();
        let reader = stream.try_clone().unwrap();
        let sender = sender.clone();
        let reading = std::thread::spawn(move || sender.send(drain(reader)).unwrap());
        noise(1, BIG).for_each(|chunk| stream.write_all(&chunk).unwrap());
        // Everything is read before the end is said: natssh leaves with the end of this direction.
        reading.join().unwrap();
    });
    let mut shim =
        broker.natssh(&["proxy", "web", "22"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shim.stdin.take().unwrap();
    let writing =
        std::thread::spawn(move || noise(2, BIG).for_each(|chunk| input.write_all(&chunk).unwrap()));
    assert_eq!(drain(shim.stdout.take().unwrap()), sum_of(1));
    writing.join().unwrap();
    assert_eq!(arrived.recv_timeout(fake::PATIENCE).unwrap(), sum_of(2));
    assert!(shim.wait().unwrap().success());
}

#[test]
fn one_stuck_direction_does_not_stop_the_other() {
    let broker = FakeBroker::serve(|mut stream| {
        stream.write_all(CONNECTED).unwrap();
        // Reads nothing until its own bytes are all out.
        noise(3, BIG).for_each(|chunk| stream.write_all(&chunk).unwrap());
        // Closing with bytes unread would be a reset, and no end.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drain(stream);
    });
    let mut shim =
        broker.natssh(&["proxy", "web", "22"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shim.stdin.take().unwrap();
    let writing = std::thread::spawn(move || while input.write_all(&[0; 65_536]).is_ok() {});
    assert_eq!(drain(shim.stdout.take().unwrap()), sum_of(3));
    assert!(shim.wait().unwrap().success());
    writing.join().unwrap();
}

#[test]
fn the_end_of_stdin_reaches_the_node_and_its_answer_still_comes_back() {
    let broker = FakeBroker::serve(|mut stream| {
        stream.write_all(CONNECTED).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut shim =
        broker.natssh(&["proxy", "web", "22"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shim.stdin.take().unwrap().write_all(b"abc").unwrap();
    let done = shim.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stdout), (Some(0), b"cba".to_vec()));
}

#[test]
fn the_end_of_the_stream_ends_stdout_while_stdin_is_open() {
    let broker = FakeBroker::answer([CONNECTED, b"bye"].concat());
    let mut shim =
        broker.natssh(&["proxy", "web", "22"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let _open = shim.stdin.take().unwrap();
    let mut all = String::new();
    shim.stdout.take().unwrap().read_to_string(&mut all).unwrap();
    assert_eq!(all, "bye");
    assert!(shim.wait().unwrap().success());
}

#[test]
fn descriptors_that_do_not_block_stay_so_and_lose_nothing() {
    let broker = FakeBroker::serve(|mut stream| {
        stream.write_all(CONNECTED).unwrap();
        let mut echo = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echo).unwrap();
    });
    let (their_input, mut input): (PipeReader, PipeWriter) = pipe().unwrap();
    let (output, their_output) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&their_input, true).unwrap();
    rustix::io::ioctl_fionbio(&their_output, true).unwrap();
    let (kept_input, kept_output) = (their_input.try_clone().unwrap(), their_output.try_clone().unwrap());
    let mut command = broker.natssh(&["proxy", "web", "22"]);
    let mut shim = command.stdin(their_input).stdout(their_output).spawn().unwrap();
    drop(command);

    let length = 8 * 1024 * 1024;
    let writing =
        std::thread::spawn(move || noise(4, length).for_each(|chunk| input.write_all(&chunk).unwrap()));
    let mut sum = SEED;
    let mut left = length;
    let mut reader = output;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let count = reader.read(&mut buffer).unwrap();
        sum = checksum(sum, &buffer[..count]);
        left -= count;
    }
    writing.join().unwrap();
    assert_eq!(sum, noise(4, length).fold(SEED, |sum, chunk| checksum(sum, &chunk)));
    for kept in [rustix::fs::fcntl_getfl(&kept_input), rustix::fs::fcntl_getfl(&kept_output)] {
        assert!(kept.unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    }
    assert!(shim.wait().unwrap().success());
}

#[test]
fn a_reader_that_leaves_ends_the_copy_quietly() {
    let broker = FakeBroker::serve(|mut stream| {
        stream.write_all(CONNECTED).unwrap();
        while stream.write_all(&[0; 65_536]).is_ok() {}
    });
    let mut shim = broker
        .natssh(&["proxy", "web", "22"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 1000];
    shim.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let done = shim.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr), (Some(0), Vec::new()));
}
