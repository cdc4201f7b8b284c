use super::*;
use proptest::prelude::*;

/// One command's outputs on a session of its own, with so much room.
fn outputs(memory: usize, file: u64, overdraft: u64) -> (tempfile::TempDir, Arc<Unread>, Outputs) {
    let folder = tempfile::tempdir().unwrap();
    let unread = Unread::new(Stores::small(folder.path().into(), memory, file, overdraft));
    let outputs = Outputs::new(unread.clone());
    outputs.starting();
    (folder, unread, outputs)
}

/// Another command on the same session.
fn neighbour(unread: &Arc<Unread>) -> Outputs {
    let outputs = Outputs::new(unread.clone());
    outputs.starting();
    outputs
}

fn used(unread: &Unread) -> (usize, usize) {
    (unread.stores.memory.used(), unread.stores.disk.used())
}

/// Waits until all that is to go to the file is there.
async fn written(outputs: &Outputs) {
    while outputs.lock().queue.on_its_way() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Reads everything to the end: the bytes in runs of one output, and how it ended.
async fn rest(outputs: &Outputs) -> (Vec<(Output, Vec<u8>)>, Event) {
    let mut runs: Vec<(Output, Vec<u8>)> = Vec::new();
    loop {
        match outputs.next().await {
            Event::Output(output, bytes) => join(&mut runs, output, &bytes),
            end => return (runs, end),
        }
    }
}

fn join(runs: &mut Vec<(Output, Vec<u8>)>, output: Output, bytes: &[u8]) {
    match runs.last_mut() {
        Some((last, run)) if *last == output => run.extend_from_slice(bytes),
        _ => runs.push((output, bytes.to_vec())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the packets and however reads fall between them, through memory, file and held connection: the same
    /// bytes in the same order, and nothing stays booked.
    #[test]
    fn bytes_come_out_as_they_went_in(
        packets in prop::collection::vec((0usize..20_000, any::<bool>(), 0u8..4), 0..60),
        company in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (_folder, unread, outputs) = outputs(16 << 10, 64 << 10, 2 << 20);
            let others = company.then(|| neighbour(&unread));
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for (n, (size, is_error, reads)) in packets.into_iter().enumerate() {
                let output = if is_error { Output::Stderr } else { Output::Stdout };
                let packet: Vec<u8> = (0..size).map(|i| (i + n) as u8).collect();
                assert_ne!(outputs.take(output, &packet).await, Kept::Overflowed);
                if size > 0 {
                    join(&mut sent, output, &packet);
                }
                for _ in 0..reads {
                    // A reader may give up at any time: nothing is lost.
                    let Ok(event) = tokio::time::timeout(Duration::from_millis(1), outputs.next()).await else { break };
                    let Event::Output(output, bytes) = event else { panic!("{event:?}") };
                    join(&mut got, output, &bytes);
                }
            }
            outputs.exited(Exit::Status(3));
            outputs.end(End::Closed);
            let (runs, end) = rest(&outputs).await;
            for (output, bytes) in runs {
                join(&mut got, output, &bytes);
            }
            assert_eq!(end, Event::Exit(3));
            assert!(got == sent, "other bytes");
            assert_eq!(used(&unread), (0, 0));
            drop(others);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn beside_others_what_does_not_fit_into_memory_waits_in_a_file_and_the_session_is_private() {
    let (_folder, unread, outputs) = outputs(64 << 10, 1 << 20, 0);
    let private = unread.private();
    let _other = neighbour(&unread);
    let packet = [7; 32 << 10];
    for _ in 0..2 {
        assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Yes);
    }
    assert!(!*private.borrow());
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(outputs.take(Output::Stderr, &packet).await, Kept::Yes);
    }
    assert!(*private.borrow());
    written(&outputs).await;
    assert_eq!((used(&unread), begun.elapsed()), ((64 << 10, 320 << 10), Duration::ZERO));
    outputs.end(End::Closed);
    let (runs, end) = rest(&outputs).await;
    let lengths: Vec<_> = runs.iter().map(|(output, bytes)| (*output, bytes.len())).collect();
    assert_eq!(lengths, [(Output::Stdout, 64 << 10), (Output::Stderr, 320 << 10)]);
    assert_eq!((end, used(&unread)), (Event::Closed, (0, 0)));
    assert!(!*private.borrow());
}

#[tokio::test(start_paused = true)]
async fn alone_the_connection_is_held_until_the_reader_makes_room_and_for_a_second_at_most() {
    let (_folder, unread, outputs) = outputs(64 << 10, 1 << 20, 1 << 20);
    let packet = [7; 32 << 10];
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Yes);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Late);
    assert_eq!(begun.elapsed(), SLICE);
    assert!(*unread.private().borrow());
    // Room is made in the middle of the next slice.
    let (kept, _) = tokio::join!(outputs.take(Output::Stdout, &packet), async {
        tokio::time::sleep(SLICE / 4).await;
        outputs.next().await
    });
    assert_eq!((kept, begun.elapsed()), (Kept::Yes, SLICE + SLICE / 4));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_comes_back_loses_its_own_stream() {
    let (_folder, unread, outputs) = outputs(64 << 10, 1 << 20, 1 << 20);
    let packet = [7; 32 << 10];
    let mut packets = 0;
    while outputs.take(Output::Stdout, &packet).await != Kept::Overflowed {
        packets += 1;
    }
    assert_eq!(packets, (2 << 20) / packet.len() + 2);
    assert_eq!(outputs.next().await, Event::Cut("its reader left more than 2 MiB unread".into()));
    assert_eq!((used(&unread), unread.running.load(Ordering::Relaxed)), ((0, 0), 0));
    assert!(!*unread.private().borrow());
}

#[tokio::test]
async fn a_disk_that_fails_ends_its_own_stream_with_its_reason() {
    let (folder, unread, outputs) = outputs(8 << 10, 1 << 20, 0);
    let other = neighbour(&unread);
    folder.close().unwrap();
    let packet = [7; 8 << 10];
    for _ in 0..2 {
        assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Yes);
    }
    // On its way it is safe, and the next bytes have no place.
    while outputs.take(Output::Stdout, &packet).await != Kept::Overflowed {}
    let Event::Cut(reason) = outputs.next().await else { panic!("it goes on") };
    assert!(reason.starts_with("no file for its unread output in "), "{reason}");
    assert_eq!((used(&unread), other.ended()), ((0, 0), None));
}

/// Its only thread for files is somebody else's until the sender is dropped.
fn with_a_disk_that_stands_still<F: Future<Output = ()>>(run: impl FnOnce(std::sync::mpsc::Sender<()>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let (goes_on, stands_still) = std::sync::mpsc::channel();
    runtime.spawn_blocking(move || stands_still.recv());
    runtime.block_on(run(goes_on));
}

#[test]
fn a_disk_that_stands_still_is_waited_for_in_slices_and_what_is_on_its_way_there_can_be_read() {
    with_a_disk_that_stands_still(|disk| async move {
        let (_folder, unread, outputs) = outputs(64 << 10, 1 << 20, 1 << 20);
        let _other = neighbour(&unread);
        let packet = |n: u8| [n; 32 << 10];
        let begun = Instant::now();
        for n in 0..4 {
            assert_eq!(outputs.take(Output::Stdout, &packet(n)).await, Kept::Yes);
        }
        assert!(begun.elapsed() < SLICE);
        assert_eq!(outputs.take(Output::Stdout, &packet(4)).await, Kept::Late);
        assert!(begun.elapsed() >= SLICE);
        let mut got = Vec::new();
        while got.len() < 3 * packet(0).len() {
            let Event::Output(_, bytes) = outputs.next().await else { panic!("it has ended") };
            got.extend_from_slice(&bytes);
        }
        drop(disk);
        outputs.end(End::Closed);
        let (runs, end) = rest(&outputs).await;
        runs.iter().for_each(|(_, bytes)| got.extend_from_slice(bytes));
        assert!(got == (0..5).flat_map(packet).collect::<Vec<u8>>(), "other bytes");
        assert_eq!(end, Event::Closed);
        assert_eq!(used(&unread), (0, 0));
    });
}

#[test]
fn a_connection_that_is_held_for_the_disk_goes_on_with_it() {
    with_a_disk_that_stands_still(|disk| async move {
        let (_folder, unread, outputs) = outputs(8 << 10, 1 << 20, 0);
        let _other = neighbour(&unread);
        for _ in 0..2 {
            assert_eq!(outputs.take(Output::Stdout, &[7; 8 << 10]).await, Kept::Yes);
        }
        let goes_on = async {
            tokio::time::sleep(SLICE / 10).await;
            drop(disk);
        };
        assert_eq!(tokio::join!(outputs.take(Output::Stdout, &[7; 8 << 10]), goes_on).0, Kept::Yes);
    });
}

#[tokio::test]
async fn no_session_takes_more_than_all_may() {
    let folder = tempfile::tempdir().unwrap();
    let stores = Stores::small(folder.path().into(), 1 << 20, 1 << 20, 0);
    stores.memory.take_anyway(MEMORY_LIMIT - (8 << 10));
    let unread = Unread::new(stores);
    let outputs = Outputs::new(unread.clone());
    let _others = (neighbour(&unread), neighbour(&unread));
    let packet = [7; 8 << 10];
    assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Yes);
    assert_eq!(outputs.take(Output::Stdout, &packet).await, Kept::Yes);
    written(&outputs).await;
    assert_eq!(used(&unread), (MEMORY_LIMIT, packet.len()));
}

#[tokio::test]
async fn an_answer_comes_first_and_the_end_last() {
    let (_folder, _unread, outputs) = outputs(8 << 10, 0, 0);
    outputs.reply(true);
    outputs.take(Output::Stdout, b"out").await;
    outputs.exited(Exit::Signal("KILL".into()));
    outputs.end(End::Closed);
    outputs.end(End::Cut("too late".into()));
    assert_eq!(outputs.next().await, Event::Started);
    assert_eq!(outputs.next().await, Event::Output(Output::Stdout, Bytes::from_static(b"out")));
    assert_eq!(outputs.next().await, Event::Killed("KILL".into()));
    assert_eq!(outputs.next().await, Event::Killed("KILL".into()));
}

#[tokio::test]
async fn a_status_before_a_broken_connection_is_no_end() {
    let (_folder, _unread, outputs) = outputs(8 << 10, 0, 0);
    outputs.exited(Exit::Status(0));
    outputs.end(End::Cut("the connection was closed by the other side".into()));
    assert!(matches!(outputs.next().await, Event::Cut(_)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_lets_the_connection_go() {
    let (_folder, unread, outputs) = outputs(8 << 10, 0, 1 << 20);
    outputs.take(Output::Stdout, &[7; 8 << 10]).await;
    let begun = Instant::now();
    let (kept, ()) = tokio::join!(outputs.take(Output::Stdout, &[7; 8 << 10]), async {
        tokio::time::sleep(SLICE / 4).await;
        outputs.abandon();
    });
    assert_eq!((kept, begun.elapsed(), used(&unread)), (Kept::Yes, SLICE / 4, (0, 0)));
}
