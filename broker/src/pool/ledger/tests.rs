//! The ledger by itself, and against a node that keeps its own count.

use super::world::{Deed, World};
use super::*;
use proptest::prelude::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A ledger with one open session, at `now`.
fn warm(now: Instant) -> (Ledger, SessionId) {
    let mut ledger = Ledger::default();
    let asked = ledger.ask(0, Use::Shared, KEEP, now);
    assert_eq!(asked, [Command::Open(1)]);
    assert_eq!(plain(ledger.opened(1, Facts::default(), now)), [granted(0, On::New, 0)]);
    assert_eq!(ledger.closed(1, false, now), []);
    assert_eq!(ledger.caught_up(1, 1, now), []);
    (ledger, 1)
}

/// On session 1, whatever was closed there.
fn granted(who: WaiterId, on: On, others: u32) -> Command {
    Command::Grant(who, Place { session: 1, on, others, closed: 0 })
}

/// The same commands, with no word of what was closed.
fn plain(mut commands: Vec<Command>) -> Vec<Command> {
    for command in &mut commands {
        if let Command::Grant(_, place) = command {
            place.closed = 0;
        }
    }
    commands
}

fn ask(ledger: &mut Ledger, who: WaiterId, now: Instant) -> Vec<Command> {
    plain(ledger.ask(who, Use::Shared, KEEP, now))
}

#[test]
fn fifty_callers_on_a_cold_node_cause_one_authentication_and_are_served_in_order() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let opens: Vec<_> = (0..50).flat_map(|who| ask(&mut ledger, who, now)).collect();
    assert_eq!(opens, [Command::Open(1)]);
    let then = ledger.opened(1, Facts::default(), now);
    let first_ten: Vec<_> = (0..10).map(|who| granted(who, On::New, u32::try_from(who).unwrap())).collect();
    assert_eq!(then[..10], first_ten);
    // Forty wait for places on four more.
    assert_eq!(then[10..], [2, 3, 4, 5].map(Command::Open));
    assert_eq!(ledger.waiting(), 40);
}

#[test]
fn a_cold_node_that_cannot_be_reached_is_told_to_all_who_wait() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    (0..3).for_each(|who| drop(ask(&mut ledger, who, now)));
    assert_eq!(ledger.not_opened(1, now), [0, 1, 2].map(Command::Fail));
    assert_eq!(ask(&mut ledger, 3, now), [Command::Open(2)]);
}

#[test]
fn the_next_command_runs_on_the_channel_opened_ahead() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    assert_eq!(ask(&mut ledger, 1, now), [granted(1, On::New, 0)]);
    assert_eq!(ledger.started(id, now), [Command::OpenAhead(id)]);
    assert_eq!(ledger.started(id, now), [], "one is enough");
    assert_eq!(ask(&mut ledger, 2, now), [granted(2, On::Ahead, 1)]);
    assert_eq!(ledger.started(id, now), [Command::OpenAhead(id)]);
    assert_eq!(ledger.entries()[0].in_flight(), 3);
}

#[test]
fn on_teleport_a_channel_opened_ahead_is_given_up_and_counts_until_it_is_closed() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let facts = Facts { ahead_for: Some(AHEAD_ON_TELEPORT), ..Facts::default() };
    ask(&mut ledger, 0, now);
    ledger.opened(1, facts, now);
    ledger.started(1, now);
    assert_eq!(ledger.tick(now + seconds(4)), []);
    let later = now + AHEAD_ON_TELEPORT;
    assert_eq!(ledger.tick(later), [Command::GiveUpAhead(1)]);
    assert_eq!(ledger.tick(later), [], "it was said");
    assert_eq!(ledger.entries()[0].in_flight(), 2);
    assert_eq!(ask(&mut ledger, 1, later), [granted(1, On::New, 2)]);
    ledger.ahead_closed(1, later);
    assert_eq!(ledger.entries()[0].in_flight(), 3);
    ledger.caught_up(1, 1, later);
    assert_eq!(ledger.entries()[0].in_flight(), 2);
}

#[test]
fn a_session_to_an_old_teleport_carries_one_terminal_and_serves_all_else_until_another_does() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let facts = Facts { one_terminal: true, ..Facts::default() };
    let wants = |ledger: &mut Ledger, who, how| plain(ledger.ask(who, how, KEEP, now));
    let granted_on = |who, session| Command::Grant(who, Place { session, on: On::New, others: 0, closed: 0 });
    assert_eq!(wants(&mut ledger, 1, Use::Terminal), [Command::Open(1)]);
    assert_eq!(plain(ledger.opened(1, facts, now)), [granted(1, On::New, 0)]);
    assert_eq!(wants(&mut ledger, 2, Use::Terminal), [Command::Open(2)], "of its own");
    assert_eq!(wants(&mut ledger, 3, Use::Shared).len(), 1, "on the first one");
    assert_eq!((ledger.closed(1, false, now), ledger.closed(1, false, now)), (vec![], vec![]), "it stays");
    assert_eq!(wants(&mut ledger, 4, Use::Terminal), [Command::Open(3)]);
    assert_eq!(plain(ledger.opened(2, facts, now)), [granted_on(2, 2), Command::Close(1)]);
    assert_eq!(wants(&mut ledger, 5, Use::Shared).len(), 1, "beside the terminal");
    assert_eq!(plain(ledger.opened(3, facts, now)), [granted_on(4, 3)]);
    // Elsewhere any number.
    let (mut ledger, _) = warm(now);
    (1..=10).for_each(|who| assert_eq!(wants(&mut ledger, who, Use::Terminal).len(), 1));
}

#[test]
fn a_refusal_teaches_how_many_channels_a_session_takes() {
    let now = Instant::now();
    let (mut ledger, _) = warm(now);
    ask(&mut ledger, 1, now);
    let [Command::Grant(2, place)] = ask(&mut ledger, 2, now)[..] else { panic!("no place") };
    let (refusal, then) = ledger.refused(place, now);
    assert_eq!((refusal, then), (Refusal::Full, vec![]));
    assert_eq!(ledger.ask_again(2, Use::Shared, now), [Command::Open(2)]);
    let then = ledger.opened(2, Facts::default(), now);
    assert_eq!(then, [Command::Grant(2, Place { session: 2, on: On::New, others: 0, closed: 0 })]);
    // The next session is believed to take one as well.
    assert_eq!(ask(&mut ledger, 3, now), [Command::Open(3)]);
    assert_eq!(ledger.started(1, now), [], "and no room for one ahead");
}

#[test]
fn who_waits_for_a_place_that_the_node_is_about_to_let_go_of_opens_no_session() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    assert_eq!(ledger.started(id, now), [Command::OpenAhead(id)]);
    assert_eq!(ledger.ahead_refused(id, now), [], "it takes one");
    assert_eq!(ledger.closed(id, false, now), [Command::CatchUp(id, 2)]);
    assert_eq!(ask(&mut ledger, 2, now), [], "the node answers sooner than it authenticates");
    assert_eq!(ask(&mut ledger, 3, now), [Command::Open(2)], "there is one place");
    assert_eq!(plain(ledger.caught_up(id, 2, now)), [granted(2, On::New, 0)]);
}

#[test]
fn a_refusal_on_a_session_with_processes_left_behind_says_nothing_about_others() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    ledger.closed(id, true, now);
    ledger.caught_up(id, 2, now);
    let [Command::Grant(2, place)] = ask(&mut ledger, 2, now)[..] else { panic!("no place") };
    let (refusal, then) = ledger.refused(place, now);
    assert_eq!((refusal, then), (Refusal::Useless, vec![Command::Close(1)]));
    assert_eq!(ledger.limit, CHANNELS);
}

#[test]
fn who_wants_to_be_alone_is_and_the_others_go_elsewhere() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    assert_eq!(plain(ledger.ask(1, Use::Alone, KEEP, now)), [granted(1, On::New, 0)]);
    assert_eq!(ask(&mut ledger, 2, now), [Command::Open(2)]);
    // The bulk is over first: the session is like any other again.
    assert_eq!(plain(ledger.closed(id, false, now)), [granted(2, On::New, 1)]);
    assert_eq!(ledger.ask(3, Use::Alone, KEEP, now), [], "the other session is on its way");
    let then = ledger.opened(2, Facts::default(), now);
    assert_eq!(then, [Command::Grant(3, Place { session: 2, on: On::New, others: 0, closed: 0 })]);
    // Where no further session can be had, the company of others is better than nothing.
    assert_eq!(ledger.ask(4, Use::Alone, KEEP, now), [Command::Open(3)]);
    assert_eq!(plain(ledger.not_opened(3, now)), [granted(4, On::New, 2)]);
}

#[test]
fn a_session_with_a_stopped_reader_or_without_an_answer_takes_nothing_new() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ledger.stalled(id, true, now);
    assert_eq!(ask(&mut ledger, 1, now), [Command::Open(2)]);
    assert_eq!(plain(ledger.stalled(id, false, now)), [granted(1, On::New, 0)]);
    assert_eq!(ledger.answers(id, false, now), (true, vec![]));
    assert_eq!(ask(&mut ledger, 2, now), [], "session 2 is still being opened");
    assert_eq!(ledger.answers(id, false, now), (false, vec![]));
    let (news, then) = ledger.answers(id, true, now);
    assert_eq!((news, plain(then)), (true, vec![granted(2, On::New, 1)]));
}

#[test]
fn after_a_reset_the_next_command_authenticates_afresh_and_running_ones_finish() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    assert_eq!(ledger.reset(now), (1, vec![]));
    assert_eq!(ask(&mut ledger, 2, now), [Command::Open(2)]);
    assert_eq!(ledger.closed(id, false, now), [Command::Close(1)]);
    // A reset while a session is being opened: it is of before, and whoever waits gets another.
    assert_eq!(ledger.reset(now), (1, vec![Command::Open(3)]));
    assert_eq!(ledger.opened(2, Facts::default(), now), [Command::Close(2)]);
    let then = ledger.opened(3, Facts::default(), now);
    assert_eq!(then, [Command::Grant(2, Place { session: 3, on: On::New, others: 0, closed: 0 })]);
}

#[test]
fn no_command_begins_after_the_certificate_has_ended_or_the_session_is_too_old() {
    for expires in [Some(seconds(30)), None] {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ask(&mut ledger, 0, now);
        let facts = Facts { expires: expires.map(|after| now + after), ..Facts::default() };
        ledger.opened(1, facts, now);
        let end = now + expires.unwrap_or(MAX_AGE);
        assert_eq!(ask(&mut ledger, 1, end - seconds(1)), [granted(1, On::New, 1)]);
        assert_eq!(ask(&mut ledger, 2, end), [Command::Open(2)]);
        assert_eq!(ledger.closed(1, false, end), []);
        assert_eq!(ledger.closed(1, false, end), [Command::Close(1)]);
    }
}

#[test]
fn the_last_session_is_kept_as_long_as_the_user_said_and_spares_a_minute() {
    let now = Instant::now();
    let (mut ledger, _) = warm(now);
    (0..11).for_each(|who| drop(ask(&mut ledger, who, now)));
    ledger.opened(2, Facts::default(), now);
    (0..10).for_each(|_| drop(ledger.closed(1, false, now)));
    ledger.closed(2, false, now);
    assert_eq!(ledger.tick(now + SPARE_IDLE), [Command::Close(2)]);
    assert_eq!(ledger.tick(now + KEEP - seconds(1)), []);
    assert_eq!(ledger.tick(now + KEEP), [Command::Close(1)]);
    assert!(ledger.entries().is_empty());
    let (mut ledger, id) = warm(now);
    ledger.ask(1, Use::Shared, seconds(2), now);
    ledger.closed(id, false, now);
    assert_eq!(ledger.tick(now + seconds(2)), [Command::Close(1)]);
}

#[test]
fn a_closed_channel_counts_until_the_node_has_answered_something_that_was_sent_later() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    let [Command::Grant(1, place)] = ledger.ask(1, Use::Shared, KEEP, now)[..] else { panic!("no place") };
    ask(&mut ledger, 2, now);
    ledger.refused(Place { others: 1, ..place }, now);
    // Two of the believed one: the node is asked once, however many want to know.
    assert_eq!(ledger.closed(id, false, now), [Command::CatchUp(id, 2)]);
    assert_eq!(ask(&mut ledger, 3, now), []);
    assert_eq!(plain(ledger.caught_up(id, 2, now)), [granted(3, On::New, 0)]);
    // With room left, nothing is asked, and the next confirmation tells as much.
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    assert_eq!(ledger.closed(id, false, now), []);
    assert_eq!(ledger.entries()[0].in_flight(), 1);
    let [Command::Grant(2, place)] = ledger.ask(2, Use::Shared, KEEP, now)[..] else { panic!("no place") };
    ledger.answered(place, now);
    assert_eq!(ledger.entries()[0].in_flight(), 1);
}

#[test]
fn only_a_session_that_nobody_uses_is_evicted() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    assert!(!ledger.evict(id));
    ledger.closed(id, false, now);
    assert!(ledger.evict(id) && ledger.entries().is_empty());
}

#[test]
fn further_sessions_that_cannot_be_had_are_not_asked_for_without_a_pause() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    (0..11).for_each(|who| drop(ask(&mut ledger, who, now)));
    assert_eq!(ledger.not_opened(2, now), [], "there is a session to wait for");
    assert_eq!(ask(&mut ledger, 11, now), []);
    assert_eq!(ledger.closed(id, false, now), [Command::CatchUp(id, 2)]);
    assert_eq!(plain(ledger.caught_up(id, 2, now)), [granted(10, On::New, 9)]);
    assert_eq!(ledger.tick(now + PAUSE), [Command::Open(3)]);
}

#[test]
fn a_draining_ledger_tells_who_waits_and_closes_what_is_idle() {
    let now = Instant::now();
    let (mut ledger, _) = warm(now);
    (0..11).for_each(|who| drop(ask(&mut ledger, who, now)));
    ledger.opened(2, Facts::default(), now);
    ledger.closed(2, false, now);
    (11..21).for_each(|who| drop(ask(&mut ledger, who, now)));
    ask(&mut ledger, 21, now);
    let then = ledger.drain(now);
    assert_eq!(then, [Command::Fail(20), Command::Fail(21)]);
    assert_eq!(ledger.opened(3, Facts::default(), now), [Command::Close(3)]);
}

#[test]
fn who_has_the_connection_takes_no_place_and_keeps_the_session() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    (1..=10).for_each(|who| drop(ask(&mut ledger, who, now)));
    let having = |who| [granted(who, On::Nothing, 10)];
    for who in [11, 12] {
        assert_eq!(plain(ledger.ask(who, Use::Connection, KEEP, now)), having(who), "a full session will do");
    }
    assert_eq!((ledger.entries()[0].in_flight(), ledger.entries()[0].in_use()), (10, 12));
    (1..=10).for_each(|_| drop(ledger.closed(id, false, now)));
    assert_eq!(ledger.entries()[0].unused_since(), None);
    // A bulk transfer would slow it down.
    assert_eq!(ledger.ask(13, Use::Alone, KEEP, now), [Command::Open(2)]);
    ledger.withdraw(13);
    assert_eq!(ledger.reset(now).0, 2);
    assert_eq!(ledger.let_go(id, now), [], "it is not the last one");
    assert_eq!(ledger.let_go(id, now), [Command::Close(id)]);
}

#[test]
fn closing_ends_every_session_at_once_and_those_on_their_way_when_they_are_there() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    ask(&mut ledger, 1, now);
    assert_eq!(ledger.ask(2, Use::Alone, KEEP, now), [Command::Open(2)]);
    ledger.withdraw(2);
    assert_eq!(ledger.close(now), (2, vec![Command::Close(id)]));
    assert_eq!(ledger.closed(id, true, now), [], "what is given back is out of the books");
    assert_eq!(ledger.opened(2, Facts::default(), now), [Command::Close(2)]);
    assert_eq!(ask(&mut ledger, 3, now), [Command::Open(3)]);
}

/// A ledger with one open session on which a channel rests, at `now`.
fn resting(now: Instant) -> (Ledger, SessionId) {
    let (mut ledger, id) = warm(now);
    assert_eq!(ask(&mut ledger, 1, now), [granted(1, On::New, 0)]);
    assert_eq!(ledger.rest(id, now), (true, vec![]));
    (ledger, id)
}

#[test]
fn who_goes_on_has_the_channel_that_rests_and_nobody_else_has_it() {
    let now = Instant::now();
    let (mut ledger, id) = resting(now);
    let entry = &ledger.entries()[0];
    assert_eq!((entry.in_flight(), entry.in_use(), entry.unused_since()), (1, 0, Some(now)));
    assert_eq!(ask(&mut ledger, 2, now), [granted(2, On::New, 1)], "a command has one of its own");
    assert_eq!(ledger.rouse(Use::Alone, KEEP, now), None, "it would not be alone");
    assert_eq!(ledger.rouse(Use::Shared, KEEP, now), Some(id));
    assert_eq!(ledger.rouse(Use::Shared, KEEP, now), None, "somebody has it");
    assert!(!ledger.leave_alone(id));
    assert_eq!(ledger.closed(id, false, now), []);
    assert!(ledger.leave_alone(id) && ledger.entries()[0].alone);
    assert_eq!(ledger.rest(id, now), (true, vec![]));
    assert!(!ledger.entries()[0].alone);
    assert_eq!(ledger.rouse(Use::Alone, KEEP, now), Some(id));
}

#[test]
fn a_channel_that_rests_stands_in_nobodys_way() {
    let now = Instant::now();
    let (mut ledger, id) = resting(now);
    (2..10).for_each(|who| assert_eq!(plain(ledger.ask(who, Use::Shared, KEEP, now)).len(), 1));
    assert_eq!(ask(&mut ledger, 10, now), [granted(10, On::New, 9), Command::GiveUpResting(id)]);
    assert_eq!(ledger.rouse(Use::Shared, KEEP, now), None, "it is being closed");
    assert_eq!(ask(&mut ledger, 11, now), [], "its place is nearly there");
    assert_eq!(ask(&mut ledger, 12, now), [Command::Open(2)]);
    assert_eq!(ledger.rested(id, false, now), [Command::CatchUp(id, 2)]);
    assert_eq!(plain(ledger.caught_up(id, 2, now)), [granted(11, On::New, 9)]);
    // One that is not closed in time is not waited for.
    let (mut ledger, _) = resting(now);
    (2..=11).for_each(|who| drop(ask(&mut ledger, who, now)));
    assert_eq!(ledger.tick(now + MAKING_ROOM - Duration::from_millis(1)), []);
    assert_eq!(ledger.tick(now + MAKING_ROOM), [Command::Open(2)]);
}

#[test]
fn a_channel_rests_for_a_while_and_not_past_a_reset_or_a_drain() {
    let now = Instant::now();
    let (mut ledger, id) = resting(now);
    assert_eq!(ledger.tick(now + RESTS - seconds(1)), []);
    assert_eq!(ledger.tick(now + RESTS), [Command::GiveUpResting(id)]);
    assert_eq!(ledger.tick(now + RESTS), [], "once");
    assert_eq!((ledger.rested(id, false, now), ledger.entries()[0].in_flight()), (vec![], 1));
    let (mut ledger, id) = resting(now);
    assert_eq!(ledger.reset(now), (1, vec![Command::Close(id)]), "nobody uses it");
    let (mut ledger, id) = resting(now);
    ask(&mut ledger, 2, now);
    assert_eq!(ledger.drain(now), [Command::GiveUpResting(id)]);
    assert_eq!(ledger.rouse(Use::Shared, KEEP, now), None);
    assert_eq!(ledger.rest(id, now), (false, vec![]), "nothing rests on what is on its way out");
}

#[test]
fn nothing_rests_where_places_are_few() {
    let now = Instant::now();
    let (mut ledger, id) = warm(now);
    (1..=10).for_each(|who| drop(ask(&mut ledger, who, now)));
    assert_eq!(ledger.rest(id, now), (false, vec![]));
    ledger.closed(id, false, now);
    ledger.caught_up(id, 2, now);
    assert!(ledger.rest(id, now).0);
    assert!(!ledger.rest(id, now).0, "one is enough");
}

fn deeds() -> impl Strategy<Value = Vec<(u64, Deed)>> {
    let how = prop_oneof![4 => Just(Use::Shared), 1 => Just(Use::Terminal), 1 => Just(Use::Alone), 1 => Just(Use::Connection)];
    let runs = prop_oneof![4 => 1u64..400, 1 => 400u64..20_000];
    let carried = prop_oneof![4 => Just(Use::Shared), 1 => Just(Use::Alone)];
    let deed = prop_oneof![
        10 => (carried, runs.clone()).prop_map(|(how, ms)| Deed::Carry { how, ms }),
        30 => (how, runs, any::<bool>()).prop_map(|(how, ms, tidy)| Deed::Run { how, ms, tidy }),
        3 => any::<prop::sample::Index>().prop_map(Deed::GiveUp),
        2 => any::<prop::sample::Index>().prop_map(Deed::Cut),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, answers)| Deed::Answers(at, answers)),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, stalled)| Deed::Stalled(at, stalled)),
        1 => Just(Deed::Reset),
        1 => Just(Deed::Close),
        1 => any::<bool>().prop_map(Deed::Down),
        1 => any::<prop::sample::Index>().prop_map(Deed::Retire),
    ];
    prop::collection::vec((0u64..300, deed), 1..150)
}

proptest! {
    /// Whatever happens in whatever order: nobody waits for ever, the node is never asked for more than is
    /// believed, what is believed is what it takes, and in the end every session is closed.
    #[test]
    fn nobody_is_lost_and_nothing_is_left(
        deeds in deeds(),
        max_sessions in 1u32..=12,
        teleport: bool,
        round_trip in 0u64..80,
    ) {
        let mut world = World::new(max_sessions, teleport, Duration::from_millis(round_trip));
        for (gap, deed) in deeds {
            world.run_for(Duration::from_millis(gap));
            world.do_it(&deed);
        }
        world.settle_down();
    }
}
