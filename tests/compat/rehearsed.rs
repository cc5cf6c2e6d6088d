//! The whole engine judged as other tools would, on synthetic traffic and a
//! virtual clock: every tick to the millisecond.

use serin::config;
use serin::config::Files;
use serin::rehearse::Rehearsal;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rollout::Action;
use serin::rollout::Command;
use serin::rollout::EventKind;
use serin::rollout::Phase;
use serin::rollout::Rollout;

/// What happened, in milliseconds since the start.
struct Story {
    phase: Phase,
    events: Vec<(u64, EventKind, String)>,
}

impl Story {
    fn times(&self, kind: EventKind) -> Vec<u64> {
        self.events.iter().filter(|event| event.1 == kind).map(|event| event.0).collect()
    }

    fn last(&self) -> &str {
        self.events.last().map_or("", |event| &event.2)
    }
}

const GOOD: Version = Version { failure: 0.001, median_ms: 50.0, spread: 0.6 };
const BAD: Version = Version { failure: 0.2, median_ms: 50.0, spread: 0.6 };

/// Until it is over, or for so many seconds; the canary is `early` at first and
/// `late` from that second on.
fn play(rollout: &str, seconds: f64, early: Version, late: (f64, Version)) -> Story {
    told(rollout, seconds, early, late, &[])
}

/// The same, and somebody gives these commands at their seconds.
fn told(rollout: &str, seconds: f64, early: Version, late: (f64, Version), said: &[(f64, Command)]) -> Story {
    let text = format!(
        "listen: 127.0.0.1:0\nservices:\n  web: {{primary: 127.0.0.1:9001, canary: 127.0.0.1:9002}}\nrollouts:\n  web:\n{}",
        rollout.lines().map(|line| format!("    {line}\n")).collect::<String>()
    );
    let loaded = config::load("rehearsed.yaml", &text, &Files::none()).expect("the test's file is good");
    let start = 10.0;
    let world = move |second: f64| World {
        requests_per_second: 200.0,
        primary: GOOD,
        canary: if second - start < late.0 { early } else { late.1 },
    };
    let mut rehearsal = Rehearsal::new(Rollout::new(loaded.rollouts[0].clone()), 7, world);
    while rehearsal.seconds() < start {
        rehearsal.look(&[]);
    }
    let mut events = Vec::new();
    let mut commands = vec![Command::Start];
    let (mut began, mut heard) = (None, 0);
    while rehearsal.seconds() < start + seconds && !rehearsal.rollout.phase().is_final() {
        let actions = rehearsal.look(&commands);
        let due = said.iter().skip(heard).take_while(|(at, _)| rehearsal.seconds() >= start + at);
        commands = due.map(|(_, command)| *command).collect();
        heard += commands.len();
        let began = *began.get_or_insert(rehearsal.now());
        for action in actions {
            if let Action::Tell { event } = action {
                events.push((event.at.since(began).as_millis() as u64, event.kind, event.text));
            }
        }
    }
    Story { phase: rehearsal.rollout.phase(), events }
}

fn good(rollout: &str) -> Story {
    play(rollout, 100_000.0, GOOD, (f64::INFINITY, GOOD))
}

fn bad(rollout: &str) -> Story {
    play(rollout, 100_000.0, BAD, (f64::INFINITY, BAD))
}

const STRIKES: &str = "steps: [{weight: 10, for: 10s}, {weight: 20, for: 30s}, {weight: 50, for: 10s}]\n\
    analysis: {judge: classic, interval: 10s, threshold: 3, checks: [{measure: successRate, min: 98}, {measure: p99, max: 500ms}]}";

#[test]
fn strikes_move_and_roll_back_on_their_ticks() {
    let story = good(STRIKES);
    assert_eq!((story.phase, story.times(EventKind::Halted)), (Phase::Succeeded, vec![]));
    assert_eq!(story.times(EventKind::Step), [10_000, 40_000]);
    assert_eq!(story.times(EventKind::Promoted), [50_000]);

    let story = bad(STRIKES);
    assert_eq!((story.phase, story.times(EventKind::RolledBack)), (Phase::RolledBack, vec![40_000]));
    assert_eq!(story.times(EventKind::Halted), [10_000, 20_000, 30_000]);
    assert_eq!(story.last(), "ROLLBACK (classic): failed checks threshold reached 3");

    let story = play(STRIKES, 100_000.0, GOOD, (25.0, BAD));
    assert_eq!(story.times(EventKind::Step), [10_000]);
    assert_eq!(story.times(EventKind::RolledBack), [60_000], "{:?}", story.events);

    let slow = GOOD.slower(6.0);
    let story = play(STRIKES, 100_000.0, slow, (f64::INFINITY, slow));
    assert_eq!(story.times(EventKind::RolledBack), [40_000]);
}

#[test]
fn measurements_judge_beside_the_steps() {
    let rollout = "steps: [{weight: 10, for: 60s}, {weight: 50, for: 60s}]\n\
        analysis: {judge: classic, measurements: [{measure: successRatio, interval: 10s, initialDelay: 10s, \
        failureLimit: 2, successCondition: \"result[0] >= 0.95\"}]}";
    let story = good(rollout);
    assert_eq!(story.times(EventKind::Promoted), [120_000], "time passes the steps");
    let story = play(rollout, 100_000.0, GOOD, (75.0, BAD));
    assert_eq!(story.times(EventKind::RolledBack), [100_000], "{:?}", story.events);
    assert!(
        story.last().contains("assessed Failed due to failed (3) > failureLimit (2)"),
        "{}",
        story.last()
    );
}

#[test]
fn a_step_waits_for_its_own_analysis() {
    let rollout = "steps: [{weight: 10, for: 5s}, {weight: 50, for: 5s}]\n\
        analysis: {judge: classic, run: perStep, measurements: [{measure: successRatio, interval: 10s, initialDelay: 10s, \
        count: 3, successCondition: \"value >= 0.95\"}]}";
    let story = good(rollout);
    assert_eq!(story.times(EventKind::Step), [30_000]);
    assert_eq!(story.times(EventKind::Promoted), [60_000]);
    let story = play(rollout, 100_000.0, GOOD, (31.0, BAD));
    assert_eq!(story.times(EventKind::RolledBack), [40_000]);
}

#[test]
fn inconclusive_waits_at_its_weight_for_a_word() {
    let rollout = "steps: [{weight: 10, for: 60s}]\n\
        analysis: {judge: classic, measurements: [{measure: successRatio, interval: 10s, initialDelay: 10s, \
        successCondition: value > 0.9999, failureCondition: value < 0.5}]}";
    let story = play(rollout, 300.0, BAD, (f64::INFINITY, BAD));
    assert_eq!((story.phase, story.times(EventKind::Paused)), (Phase::Paused, vec![10_000]));
}

#[test]
fn scores_are_judged_at_their_times() {
    let rollout = "steps: [{weight: 50, for: 60m}]\n\
        analysis: {judge: netflix-aca, interval: 30m, metrics: [{measure: errorRate, direction: increase, critical: true}, \
        {measure: p99, direction: increase, effect: {allowedIncrease: 1.2}}]}";
    let story = good(rollout);
    assert_eq!((story.phase, story.times(EventKind::Promoted)), (Phase::Succeeded, vec![3_600_000]));
    let story = bad(rollout);
    assert_eq!(story.times(EventKind::RolledBack), [1_800_000]);
    assert!(
        story.last().starts_with(
            "ROLLBACK (netflix-aca): score 0 is not above the marginal 50: a critical metric failed"
        ),
        "{}",
        story.last()
    );
}

#[test]
fn a_stage_compares_at_its_intervals() {
    let rollout = "steps: [{weight: 50, for: 30m}]\n\
        analysis: {judge: mann-whitney, metrics: [{measure: errorRate, strategy: canaryPrimary, deviation: high, interval: 10m, failureLimit: 1}]}";
    let story = bad(rollout);
    assert_eq!(story.times(EventKind::RolledBack), [1_200_000]);
    let story = good(rollout);
    assert_eq!(story.times(EventKind::Promoted), [1_800_000], "{:?}", story.events);
}

#[test]
fn without_requests_no_step_passes_by_time_alone() {
    // An empty check passes, so only the canary's own answers are missing.
    let rollout = "steps: [{weight: 0.01, for: 1s}]\n\
        analysis: {judge: mann-whitney, metrics: [{measure: requests, expected: {min: 0}, interval: 500ms}]}";
    let story = play(rollout, 3.0, GOOD, (f64::INFINITY, GOOD));
    assert_eq!(story.phase, Phase::Running, "{:?}", story.events);
}

const FREEZE: [(f64, Command); 2] = [(15.0, Command::Freeze), (3_600.0, Command::Resume)];

#[test]
fn what_was_frozen_away_is_no_lack_of_values() {
    let never = (f64::INFINITY, GOOD);
    let story = told(STRIKES, 100_000.0, GOOD, never, &FREEZE);
    assert_eq!(
        (story.phase, story.times(EventKind::Halted)),
        (Phase::Succeeded, vec![]),
        "{:?}",
        story.events
    );
    let measured = "steps: [{weight: 10, for: 60s}]\n\
        analysis: {judge: classic, measurements: [{measure: successRatio, interval: 10s, initialDelay: 10s, \
        consecutiveErrorLimit: 0, successCondition: \"result[0] >= 0.95\"}]}";
    let story = told(measured, 100_000.0, GOOD, never, &FREEZE);
    assert_eq!(story.phase, Phase::Succeeded, "{:?}", story.events);
    let ranked = "steps: [{weight: 10, for: 60s}]\n\
        analysis: {judge: mann-whitney, metrics: [{measure: errorRate, expected: {max: 5}, interval: 10s}]}";
    let story = told(ranked, 100_000.0, GOOD, never, &FREEZE);
    assert_eq!(story.phase, Phase::Succeeded, "{:?}", story.events);
    let promoted = story.times(EventKind::Promoted)[0];
    assert!((3_640_000..3_650_000).contains(&promoted), "a frozen stage does not run out: {promoted}");
}

const COPIED: &str = "steps: [{mirrored: 100, for: 30s}, {weight: 10, for: 30s}]\n";

/// Judges that ask for failures and for times, all in the middle of their bounds.
const ASKING: [&str; 4] = [
    "analysis: {judge: classic, interval: 10s, threshold: 1, checks: [{measure: p99, max: 500ms}, {measure: successRate, min: 98}]}",
    "analysis: {judge: classic, run: perStep, measurements: [\
     {measure: p99, interval: 10s, initialDelay: 10s, count: 3, successCondition: \"result[0] < 500\"}, \
     {measure: successRatio, interval: 10s, initialDelay: 10s, count: 3, successCondition: \"result[0] >= 0.95\"}]}",
    "analysis: {judge: netflix-aca, step: 1s, metrics: [{measure: p50, direction: increase}, {measure: p99, direction: increase}, \
     {measure: failures, direction: increase, critical: true}]}",
    "analysis: {judge: mann-whitney, metrics: [{measure: p99, strategy: canaryPrimary, deviation: high, interval: 15s, step: 1s, failureLimit: 1}, \
     {measure: errorRate, expected: {max: 5}, interval: 15s}]}",
];

#[test]
fn copies_are_requests_of_the_canary() {
    for judge in ASKING {
        let rollout = format!("{COPIED}{judge}");
        let story = good(&rollout);
        assert_eq!(story.phase, Phase::Succeeded, "{judge}: {:?}", story.events);
        assert_eq!(story.times(EventKind::Step), [30_000], "{judge}");
        let story = bad(&rollout);
        assert_eq!(story.phase, Phase::RolledBack, "{judge}");
        assert!(story.times(EventKind::Step).is_empty(), "no user met it: {:?}", story.events);
    }
}

#[test]
fn times_alone_cannot_be_asked_of_copies_and_do_not_stop_them() {
    let only = [
        "analysis: {judge: classic, interval: 10s, checks: [{measure: p99, max: 500ms}]}",
        "analysis: {judge: netflix-aca, step: 1s, metrics: [{measure: p99, direction: increase}]}",
    ];
    for judge in only {
        let story = good(&format!("{COPIED}{judge}"));
        assert_eq!(story.phase, Phase::Succeeded, "{judge}: {:?}", story.events);
    }
}

#[test]
fn counts_are_compared_with_as_much_of_the_primarys_traffic() {
    for weight in [2, 5, 20] {
        let scores = format!(
            "steps: [{{weight: {weight}, for: 60s}}]\n\
             analysis: {{judge: netflix-aca, step: 2s, metrics: [\
             {{measure: requests, critical: true, effect: {{allowedIncrease: 1.3, allowedDecrease: 0.7}}}}, \
             {{measure: requestRate, critical: true, effect: {{allowedIncrease: 1.3, allowedDecrease: 0.7}}}}, \
             {{measure: failures, direction: increase, critical: true}}]}}"
        );
        let story = good(&scores);
        assert_eq!(story.phase, Phase::Succeeded, "{weight} %: {:?}", story.events);
        assert_eq!(bad(&scores).phase, Phase::RolledBack, "{weight} %");
        let ranks = format!(
            "steps: [{{weight: {weight}, for: 60s}}]\n\
             analysis: {{judge: mann-whitney, metrics: [{{measure: failures, strategy: canaryBaseline, deviation: high, \
             interval: 60s, step: 4s}}]}}"
        );
        assert_eq!(good(&ranks).phase, Phase::Succeeded, "{weight} %");
        assert_eq!(bad(&ranks).phase, Phase::RolledBack, "{weight} %");
    }
}

#[test]
fn a_bake_that_is_asked_for_is_watched() {
    let strikes = format!("bake: 60s\n{STRIKES}");
    let story = good(&strikes);
    assert_eq!(story.phase, Phase::Succeeded);
    assert_eq!(story.times(EventKind::Baked), [110_000]);
    let story = play(&strikes, 100_000.0, GOOD, (65.0, BAD));
    assert_eq!(story.times(EventKind::Promoted), [50_000]);
    assert_eq!(story.times(EventKind::RolledBack), [100_000], "{:?}", story.events);

    let measured = "bake: 60s\nsteps: [{weight: 10, for: 60s}]\n\
        analysis: {judge: classic, measurements: [{measure: successRatio, interval: 10s, initialDelay: 10s, count: 5, \
        failureLimit: 1, successCondition: \"result[0] >= 0.95\"}]}";
    assert_eq!(good(measured).times(EventKind::Baked), [120_000]);
    let story = play(measured, 100_000.0, GOOD, (61.0, BAD));
    assert_eq!(story.times(EventKind::RolledBack), [80_000], "a run of its own, as after a promotion");
}

#[test]
fn a_bake_that_nobody_watches_is_said_to_be_one() {
    let promoted = |rollout: &str| {
        let story = good(rollout);
        story.events.iter().find(|event| event.1 == EventKind::Promoted).map(|event| event.2.clone())
    };
    let said = promoted(STRIKES).expect("it is promoted");
    assert!(said.ends_with("nothing watches over it"), "{said}");
    let scores = "bake: 60s\nsteps: [{weight: 50, for: 60s}]\n\
        analysis: {judge: netflix-aca, step: 1s, metrics: [{measure: errorRate, direction: increase}]}";
    let said = promoted(scores).expect("it is promoted");
    assert!(said.contains("netflix-aca compares with the primary"), "{said}");
}
