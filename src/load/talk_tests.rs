//! Conversations on pipes: what each turn carries, when it is sent, and how a conversation ends.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::{recipe::ThinkTime, stats::results::Conversations};

const THINK: Duration = Duration::from_millis(200);

/// With conversations of so many turns, in which the user thinks for [`THINK`].
fn in_turns(mut plan: ClientPlan, turns: Length) -> ClientPlan {
    plan.api = Api::Chat;
    plan.workload.conversation = Some(crate::recipe::Conversation {
        turns: Some(turns),
        think_time: ThinkTime::Fixed(THINK),
        message_length: Length::Fixed(5),
    });
    plan
}

/// The samples of each conversation, in the order of their turns.
fn conversations(ended: &Ended) -> BTreeMap<u64, Vec<Sample>> {
    let mut all: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
    for sample in &ended.samples {
        all.entry(sample.index).or_default().push(sample.clone());
    }
    for samples in all.values_mut() {
        samples.sort_by_key(|sample| sample.turn.expect("a turn").number);
    }
    all
}

/// The messages of all requests of a conversation, by what its user said first.
fn asked(ended: &Ended) -> BTreeMap<String, Vec<Vec<Value>>> {
    let mut all: BTreeMap<String, Vec<Vec<Value>>> = BTreeMap::new();
    for body in ended.engine.asked.lock().expect("no panic").iter() {
        let messages = body["messages"].as_array().expect("messages").clone();
        let first = messages[0]["content"].as_str().expect("a text").to_owned();
        all.entry(first).or_default().push(messages);
    }
    all
}

fn ends(ended: &Ended, plan: &ClientPlan) -> Conversations {
    let tally = tally(&ended.samples, plan);
    tally.turns().conversations().expect("conversations")
}

/// Each turn begins with all of the turn before, and what was answered to it.
#[track_caller]
fn assert_each_carries_what_was_before(conversation: &[Vec<Value>]) {
    for (turn, messages) in conversation.iter().enumerate() {
        assert_eq!(messages.len(), 2 * turn + 1);
        for (place, message) in messages.iter().enumerate() {
            let role = if place % 2 == 0 { "user" } else { "assistant" };
            assert_eq!(message["role"], role);
        }
        let Some(before) = turn.checked_sub(1).map(|turn| &conversation[turn]) else {
            continue;
        };
        assert_eq!(messages[..before.len()], before[..]);
        let answer = messages[before.len()]["content"].as_str().expect("a text");
        // as the engine said it: the number of the request, a quote, the chunk
        let mut words = answer.split_whitespace();
        let first = words.next().expect("two chunks");
        let number = first.strip_suffix("\"0").expect("the first chunk");
        assert_eq!(words.next(), Some(&*format!("{number}\"1")));
        assert_eq!(words.next(), None);
        let said = messages.last().expect("messages")["content"].as_str();
        assert_eq!(said.expect("a text").split(' ').count(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_holds_one_conversation_at_a_time_and_each_turn_carries_all_before_it() {
    let mut plan = in_turns(users(2), Length::Fixed(3));
    let LoadModel::ClosedLoop { think_time, .. } = &mut plan.load else {
        panic!("a closed loop")
    };
    *think_time = ThinkTime::Fixed(seconds(1));
    plan.duration = Some(milliseconds(3400));
    let ended = run(&plan, Engine::doing(100, |_, _| Reply::Stream(2))).await;
    // 100 ms an answer and 200 ms in between make 700 ms; with a second behind it, the third begins at 3.4 s
    let conversations = conversations(&ended);
    assert_eq!(conversations.len(), 4);
    for samples in conversations.values() {
        let told: Vec<_> = samples
            .iter()
            .map(|sample| {
                let turn = sample.turn.expect("a turn");
                (turn.number, turn.last, sample.is_success())
            })
            .collect();
        assert_eq!(told, [(0, false, true), (1, false, true), (2, true, true)]);
        for pair in samples.windows(2) {
            let thought = pair[1].intended.saturating_sub(pair[0].end);
            assert!(
                (THINK..THINK + milliseconds(2)).contains(&thought),
                "{thought:?}"
            );
        }
    }
    let asked = asked(&ended);
    assert_eq!(asked.len(), 4, "no two begin alike");
    for conversation in asked.values() {
        assert_eq!(conversation.len(), 3);
        assert_each_carries_what_was_before(conversation);
    }
    assert_eq!(ended.engine.max_in_flight.load(Ordering::SeqCst), 2);
    let (begun, completed) = (4, 4);
    let wanted = Conversations {
        begun,
        completed,
        ..Conversations::default()
    };
    assert_eq!(ends(&ended, &plan), wanted);
    let turns = tally(&ended.samples, &plan).turns().results();
    let told: Vec<_> = turns
        .iter()
        .map(|turn| (turn.turn, turn.requests, turn.errors))
        .collect();
    assert_eq!(told, [(1, 4, 0), (2, 4, 0), (3, 4, 0)]);
    for turn in &turns {
        assert_near(turn.metrics["time_to_first_token"].avg, 100.0, 2.0);
    }
}

#[tokio::test(start_paused = true)]
async fn arrivals_begin_conversations_and_later_turns_come_when_they_are_due() {
    let mut plan = in_turns(rate(10.0), Length::Fixed(3));
    plan.duration = Some(seconds(10));
    let ended = run(&plan, Engine::doing(100, |_, _| Reply::Stream(2))).await;
    let tally = tally(&ended.samples, &plan);
    assert_eq!(tally.counts().arrived, 100);
    assert_near(tally.arrival_rate(window(&plan)), 10.0, 0.1);
    // a conversation takes 700 ms; the turns of the last ones come too late
    let all = conversations(&ended);
    for (index, samples) in &all {
        let begin = milliseconds(100 * index);
        let due = |turn: u32| begin + turn * (THINK + milliseconds(100));
        let in_time = (0..3).filter(|turn| due(*turn) < seconds(10)).count();
        // timers count in milliseconds
        assert!(
            samples.len().abs_diff(in_time) <= 1,
            "{index}: {}",
            samples.len()
        );
        for (turn, sample) in (0_u32..).zip(samples) {
            assert!(sample.is_success());
            let late = sample.sent.expect("sent").saturating_sub(due(turn));
            assert!(
                late <= milliseconds(5),
                "{index}, turn {turn}: {late:?} late"
            );
        }
    }
    for conversation in asked(&ended).values() {
        assert_each_carries_what_was_before(conversation);
    }
    let Conversations {
        begun,
        completed,
        failed,
        cut_short,
    } = ends(&ended, &plan);
    assert_eq!((begun, failed, completed + cut_short), (100, 0, 100));
    assert!((5..=7).contains(&cut_short), "{cut_short}");
    assert!(ended.at < seconds(11), "{:?}", ended.at);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_fails_ends_its_conversation() {
    let plan = in_turns(users(1), Length::Fixed(3));
    let script = |number, _| match number {
        1 => Reply::Status(500),
        4 => Reply::Broken(1),
        _ => Reply::Stream(2),
    };
    let mut limited = plan.clone();
    limited.total_requests = Some(9);
    let ended = run(&limited, Engine::doing(100, script)).await;
    let turns: Vec<usize> = conversations(&ended).values().map(Vec::len).collect();
    // two turns, three of which the last breaks, three, and one more request is allowed
    assert_eq!(turns, [2, 3, 3, 1]);
    let wanted = Conversations {
        begun: 4,
        completed: 1,
        failed: 2,
        cut_short: 1,
    };
    assert_eq!(ends(&ended, &limited), wanted);
    let turns = tally(&ended.samples, &limited).turns().results();
    let errors: Vec<_> = turns.iter().map(|turn| turn.errors).collect();
    assert_eq!(errors, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn told_to_drain_no_one_waits_for_who_thinks() {
    for plan in [users(3), rate(10.0)] {
        let mut plan = in_turns(plan, Length::Fixed(50));
        plan.workload.conversation.as_mut().expect("one").think_time =
            ThinkTime::Fixed(seconds(3600));
        let ended = run_with(&plan, Engine::new(100), told(seconds(5), None)).await;
        assert!(ended.at < milliseconds(5200), "{:?}", ended.at);
        let Conversations {
            begun, cut_short, ..
        } = ends(&ended, &plan);
        assert_eq!(begun, cut_short);
        assert_eq!(begun, ended.samples.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_turn_is_dropped_at_the_cap_too() {
    let mut plan = in_turns(rate(10.0), Length::Fixed(2));
    plan.duration = Some(seconds(3));
    let LoadModel::OpenLoop { max_in_flight, .. } = &mut plan.load else {
        panic!("an open loop")
    };
    *max_in_flight = Some(3);
    let ended = run(&plan, Engine::new(400)).await;
    assert!(ended.engine.max_in_flight.load(Ordering::SeqCst) <= 3);
    let dropped = |later: bool| {
        let all = ended.samples.iter().filter(|sample| sample.dropped);
        all.filter(|sample| sample.is_first() != later).count()
    };
    assert!(dropped(true) > 0 && dropped(false) > 0);
    let Conversations { begun, failed, .. } = ends(&ended, &plan);
    assert_eq!(begun, 30);
    let dropped = (dropped(true) + dropped(false)) as u64;
    assert_eq!(failed, dropped);
}

#[tokio::test(start_paused = true)]
async fn the_text_of_an_answer_is_kept_only_where_a_further_turn_carries_it() {
    let mut alone = users(1);
    alone.api = Api::Chat;
    alone.duration = Some(seconds(1));
    let mut talks = in_turns(users(1), Length::Fixed(2));
    talks.duration = Some(seconds(1));
    for (plan, keeps) in [(alone, false), (talks, true)] {
        let ended = run(&plan, Engine::doing(100, |_, _| Reply::Stream(2))).await;
        for sample in &ended.samples {
            let goes_on = sample.turn.is_some_and(|turn| !turn.last);
            assert_eq!(!sample.said.is_empty(), keeps && goes_on);
        }
    }
}
