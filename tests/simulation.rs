//! The rollout engine on synthetic traffic and a virtual clock, over many seeds.
//! What must hold at every look is in [`Watch`]; what must hold of whole rollouts
//! is in the tests. A failure names its seed.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use serin::clock::Moment;
use serin::judge::analysis::Analysis;
use serin::judge::analysis::LatencyObjective;
use serin::judge::analysis::OnShared;
use serin::judge::analysis::SuccessObjective;
use serin::judge::evidence::Evidence;
use serin::rehearse::Rehearsal;
use serin::rehearse::Version;
use serin::rehearse::World;
use serin::rehearse::users::Users;
use serin::rollout::Action;
use serin::rollout::Command;
use serin::rollout::EventKind;
use serin::rollout::Phase;
use serin::rollout::Rollout;
use serin::rollout::Spec;
use serin::rollout::spec::Step;
use serin_proxy::weights::WHOLE;

const SEEDS: u64 = 200;
/// Where only the invariants are asked for, and much may happen.
const CHAOS: u64 = 600;
const RPS: f64 = 200.0;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn spec() -> Spec {
    let weight = |percent: u32| Step::Weight { parts: percent * 100, hold: seconds(20) };
    Spec {
        name: "web".to_owned(),
        split: "web".to_owned(),
        primary: "primary".to_owned(),
        canary: "canary".to_owned(),
        steps: vec![weight(5), weight(20), Step::Pause { hold: Some(seconds(5)) }, weight(50)],
        bake: seconds(20),
        analysis: Analysis {
            success: Some(SuccessObjective { min: 0.99, share: SuccessObjective::SHARE }),
            latency: Some(LatencyObjective {
                quantile: 0.99,
                threshold: Duration::from_millis(500),
                share: LatencyObjective::SHARE,
            }),
            ..Analysis::default()
        },
        ..Spec::default()
    }
}

fn steady(primary: Version, canary: Version) -> impl Fn(f64) -> World {
    move |_| World { requests_per_second: RPS, primary, canary }
}

/// Ten seconds of history, then the start.
fn started<W: Fn(f64) -> World>(spec: Spec, seed: u64, world: W) -> (Rehearsal<W>, Watch) {
    let mut rehearsal = Rehearsal::new(Rollout::new(spec), seed, world);
    let mut watch = Watch::new(seed);
    while rehearsal.seconds() < 10.0 {
        watch.look(&mut rehearsal, &[]);
    }
    watch.look(&mut rehearsal, &[Command::Start]);
    (rehearsal, watch)
}

/// Looks on until the rollout ends, or for so many seconds.
fn finish<W: Fn(f64) -> World>(rehearsal: &mut Rehearsal<W>, watch: &mut Watch, most_seconds: f64) -> Phase {
    let until = rehearsal.seconds() + most_seconds;
    while !rehearsal.rollout.phase().is_final() && rehearsal.seconds() < until {
        watch.look(rehearsal, &[]);
    }
    rehearsal.rollout.phase()
}

/// Checks at every look what must always hold.
struct Watch {
    seed: u64,
    parts: u32,
    step: usize,
    /// Canary requests that had ended when the present step began.
    ended_before: u64,
    actions: Vec<(Moment, Action)>,
}

impl Watch {
    fn new(seed: u64) -> Watch {
        Watch { seed, parts: 0, step: 0, ended_before: 0, actions: Vec::new() }
    }

    fn look<W: Fn(f64) -> World>(&mut self, rehearsal: &mut Rehearsal<W>, commands: &[Command]) {
        let before = rehearsal.rollout.phase();
        let actions = rehearsal.look(commands);
        let seed = self.seed;
        let now = rehearsal.now();
        let weights = rehearsal.rollout.weights();
        assert_eq!(weights.iter().map(|(_, parts)| parts).sum::<u32>(), WHOLE, "seed {seed}");
        assert_eq!(weights.of("canary"), rehearsal.parts(), "seed {seed}: what is in force is what was said");

        for action in &actions {
            rehearsal.act(action);
        }
        assert_eq!(weights.of("canary"), rehearsal.parts(), "seed {seed}: repeated actions change nothing");

        let kinds = || actions.iter().filter_map(kind);
        let again = commands.iter().any(|command| matches!(command, Command::Start | Command::Retry));
        if matches!(before, Phase::RolledBack | Phase::Aborted) && !again {
            assert_eq!(rehearsal.parts(), 0, "seed {seed}: the canary's weight rose after the end");
        }
        if rehearsal.parts() > self.parts {
            let told = kinds().any(|kind| {
                use EventKind::*;
                matches!(kind, Started | Step | Promoted | Probed | Released)
            });
            assert!(told, "seed {seed}: the weight rose from {} without a word: {actions:?}", self.parts);
        }
        self.check_step(rehearsal, rehearsal.rollout.step_number(), commands.is_empty());
        self.parts = rehearsal.parts();
        self.actions.extend(actions.into_iter().map(|action| (now, action)));
    }

    fn check_step<W: Fn(f64) -> World>(&mut self, rehearsal: &Rehearsal<W>, step: usize, by_itself: bool) {
        let ended = rehearsal.totals.canary_ok + rehearsal.totals.canary_failures;
        if step == self.step {
            return;
        }
        let steps = &rehearsal.rollout.spec().steps;
        let was_weight = matches!(steps.get(self.step), Some(Step::Weight { .. }));
        if step > self.step && by_itself && was_weight {
            let own = ended - self.ended_before;
            let asked = rehearsal.rollout.spec().analysis.min_requests;
            assert!(own >= asked, "seed {}: step {} passed on {own} requests", self.seed, self.step);
        }
        self.step = step;
        self.ended_before = ended;
    }

    /// After a crash or with another plan it is where it is, and knows what it had counted there.
    fn come_back<W: Fn(f64) -> World>(&mut self, rehearsal: &Rehearsal<W>) {
        self.step = rehearsal.rollout.step_number();
        self.ended_before = 0;
    }

    fn times(&self, wanted: EventKind) -> usize {
        self.actions.iter().filter(|(_, action)| kind(action) == Some(wanted)).count()
    }
}

fn kind(action: &Action) -> Option<EventKind> {
    match action {
        Action::Tell { event } => Some(event.kind),
        _ => None,
    }
}

/// How many of the seeds end in `wanted`, within so many seconds.
fn share<W: Fn(f64) -> World>(
    seeds: u64,
    wanted: Phase,
    most_seconds: f64,
    spec: &Spec,
    world: impl Fn() -> W,
) -> (u64, String) {
    let mut hits = 0;
    let mut others = String::new();
    for seed in 0..seeds {
        let (mut rehearsal, mut watch) = started(spec.clone(), seed, world());
        let phase = finish(&mut rehearsal, &mut watch, most_seconds);
        if phase == wanted {
            hits += 1;
        } else {
            let sentence = rehearsal.rollout.status(rehearsal.now()).sentence;
            others.push_str(&format!("seed {seed}: {phase:?} at {:.1} s: {sentence}\n", rehearsal.seconds()));
        }
    }
    (hits, others)
}

#[test]
fn healthy_canary_is_promoted() {
    let healthy = Version::failing(0.002);
    // Steps, pause and bake last 85 s; a suspicion may cost half a minute more.
    let (promoted, others) = share(SEEDS, Phase::Succeeded, 160.0, &spec(), || steady(healthy, healthy));
    assert!(promoted >= SEEDS * 98 / 100, "{promoted} of {SEEDS} promoted\n{others}");
}

/// A fifth of ten canary requests a second: two failures a second.
#[test]
fn failing_canary_loses_its_traffic_in_seconds_and_is_rolled_back_in_a_minute_and_a_half() {
    let (mut cut, mut back, mut others) = (0, 0, String::new());
    for seed in 0..SEEDS {
        let world = steady(Version::failing(0.002), Version::failing(0.2));
        let (mut rehearsal, mut watch) = started(spec(), seed, world);
        let start = rehearsal.seconds();
        finish(&mut rehearsal, &mut watch, 15.0);
        cut += u64::from(watch.times(EventKind::Suspended) > 0);
        if finish(&mut rehearsal, &mut watch, 75.0) == Phase::RolledBack {
            back += 1;
        } else {
            let sentence = rehearsal.rollout.status(rehearsal.now()).sentence;
            others.push_str(&format!("seed {seed}, {:.1} s: {sentence}\n", rehearsal.seconds() - start));
        }
    }
    assert!(cut >= SEEDS * 97 / 100, "{cut} of {SEEDS} were cut within 15 s");
    assert!(back >= SEEDS * 99 / 100, "{back} of {SEEDS} were rolled back within 90 s\n{others}");
}

/// No primary failure ever: any canary failure is one too many to be explained by
/// the primary's rate, and the tolerance alone must not excuse it.
#[test]
fn failing_canary_beside_a_perfect_primary_loses_its_traffic_as_fast() {
    let mut spec = spec();
    spec.analysis.success = None;
    for (percent, most_seconds) in [(5, 20.0), (50, 15.0)] {
        spec.steps = vec![Step::Weight { parts: percent * 100, hold: seconds(600) }];
        for seed in 0..SEEDS / 4 {
            let world = steady(Version::failing(0.0), Version::failing(0.1));
            let (mut rehearsal, mut watch) = started(spec.clone(), seed, world);
            finish(&mut rehearsal, &mut watch, most_seconds);
            assert!(watch.times(EventKind::Suspended) > 0, "seed {seed}, {percent} %: nothing was done");
        }
    }
}

/// Beside a perfect primary a canary within the tolerance stays.
#[test]
fn canary_within_the_tolerance_is_promoted_beside_a_perfect_primary() {
    let worlds = || steady(Version::failing(0.0), Version::failing(0.0004));
    let (promoted, others) = share(SEEDS / 4, Phase::Succeeded, 160.0, &spec(), worlds);
    assert!(promoted >= SEEDS / 4 * 98 / 100, "{promoted} of {} promoted\n{others}", SEEDS / 4);
}

#[test]
fn slow_canary_is_rolled_back_within_two_minutes() {
    let primary = Version::failing(0.002);
    let canary = primary.slower(3.0);
    let (back, others) = share(SEEDS / 2, Phase::RolledBack, 120.0, &spec(), || steady(primary, canary));
    assert!(back >= SEEDS / 2 * 98 / 100, "{back} of {} rolled back\n{others}", SEEDS / 2);
}

/// Users who keep their version, come unequally often and are unequally slow.
fn among_users<W: Fn(f64) -> World>(seed: u64, count: usize, world: W) -> (Rehearsal<W>, Watch) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x00c0_ffee);
    let users = Users::new(count, 0.8, &mut random);
    let mut spec = spec();
    // It counts requests, and its proof would need other holds.
    spec.analysis.promotion = None;
    let mut rehearsal = Rehearsal::new(Rollout::new(spec), seed, world).among(users);
    let mut watch = Watch::new(seed);
    while rehearsal.seconds() < 10.0 {
        watch.look(&mut rehearsal, &[]);
    }
    watch.look(&mut rehearsal, &[Command::Start]);
    (rehearsal, watch)
}

/// Which users a version has, and how often they come, is no fault of the version.
#[test]
fn equal_versions_are_not_told_apart_by_their_users() {
    let (mut suspended, mut promoted) = (0, 0);
    let seeds = SEEDS / 2;
    for seed in 0..seeds {
        let healthy = Version::failing(0.002);
        let (mut rehearsal, mut watch) = among_users(seed, 1_000, steady(healthy, healthy));
        let phase = finish(&mut rehearsal, &mut watch, 160.0);
        assert_ne!(phase, Phase::RolledBack, "seed {seed}");
        suspended += u64::from(watch.times(EventKind::Suspended) > 0);
        promoted += u64::from(phase == Phase::Succeeded);
    }
    assert!(suspended <= seeds / 100, "{suspended} of {seeds} were suspended");
    assert!(promoted >= seeds * 98 / 100, "{promoted} of {seeds} were promoted");
}

/// A user is one toss, so what can be known depends on how many there are.
#[test]
fn slow_canary_is_seen_in_its_users() {
    let seeds = SEEDS / 4;
    for (users, least) in [(1_000, 90), (5_000, 98)] {
        let (mut seen, mut promoted) = (0, 0);
        for seed in 0..seeds {
            let primary = Version::failing(0.002);
            let (mut rehearsal, mut watch) = among_users(seed, users, steady(primary, primary.slower(3.0)));
            let phase = finish(&mut rehearsal, &mut watch, 160.0);
            seen += u64::from(watch.times(EventKind::Suspended) > 0);
            promoted += u64::from(phase == Phase::Succeeded);
        }
        assert!(seen >= seeds * least / 100, "{seen} of {seeds} were seen among {users} users");
        assert!(promoted <= seeds - seeds * least / 100, "{promoted} of {seeds} promoted, {users} users");
    }
}

#[test]
fn hanging_canary_is_recognised_while_its_requests_are_under_way() {
    let primary = Version::failing(0.0);
    let hanging = Version { failure: 1.0, median_ms: 12_000.0, spread: 0.01 };
    for seed in 0..20 {
        let (mut rehearsal, mut watch) = started(spec(), seed, steady(primary, hanging));
        let start = rehearsal.seconds();
        while watch.times(EventKind::Suspended) == 0 && rehearsal.seconds() < start + 11.0 {
            watch.look(&mut rehearsal, &[]);
        }
        assert_eq!(rehearsal.totals.canary_failures, 0, "seed {seed}: nothing has failed yet");
        assert_eq!(watch.times(EventKind::Suspended), 1, "seed {seed}: exposure was not cut");
    }
}

#[test]
fn canary_that_breaks_while_baking_is_rolled_back() {
    let mut spec = spec();
    spec.bake = seconds(600);
    for seed in 0..20 {
        let world = |at: f64| World {
            requests_per_second: RPS,
            primary: Version::failing(0.002),
            canary: Version::failing(if at < 100.0 { 0.002 } else { 0.5 }),
        };
        let (mut rehearsal, mut watch) = started(spec.clone(), seed, world);
        finish(&mut rehearsal, &mut watch, 88.0);
        assert_eq!(rehearsal.rollout.phase(), Phase::Baking, "seed {seed}");
        let phase = finish(&mut rehearsal, &mut watch, 120.0);
        assert_eq!(phase, Phase::RolledBack, "seed {seed}");
    }
}

#[test]
fn shared_outage_is_held_and_not_blamed_on_the_canary() {
    let mut spec = spec();
    spec.analysis.on_shared = OnShared::Hold;
    spec.analysis.hold_timeout = seconds(30);
    let mut held = 0;
    for seed in 0..SEEDS / 2 {
        let outage = |at: f64| {
            let version = Version::failing(if at < 30.0 { 0.002 } else { 0.5 });
            World { requests_per_second: RPS, primary: version, canary: version }
        };
        let (mut rehearsal, mut watch) = started(spec.clone(), seed, outage);
        let phase = finish(&mut rehearsal, &mut watch, 120.0);
        assert_ne!(phase, Phase::RolledBack, "seed {seed}: a shared outage rolled the canary back");
        held += u64::from(watch.times(EventKind::Held) > 0);
    }
    assert!(held >= SEEDS / 2 * 95 / 100, "only {held} of {} outages were recognised", SEEDS / 2);
}

#[test]
fn pod_blip_suspends_and_resumes() {
    let mut resumed = 0;
    let seeds = SEEDS / 4;
    for seed in 0..seeds {
        let blip = |at: f64| World {
            requests_per_second: RPS,
            primary: Version::failing(0.002),
            canary: Version::failing(if (20.0..22.0).contains(&at) { 1.0 } else { 0.002 }),
        };
        let (mut rehearsal, mut watch) = started(spec(), seed, blip);
        let phase = finish(&mut rehearsal, &mut watch, 300.0);
        assert!(watch.times(EventKind::Suspended) > 0, "seed {seed}: the blip was not seen");
        resumed += u64::from(phase == Phase::Succeeded);
    }
    assert!(resumed >= seeds * 95 / 100, "{resumed} of {seeds} survived a blip of two seconds");
}

#[test]
fn no_data_is_never_success() {
    let mut blind = Rollout::new(spec());
    let mut now = Moment(1_000);
    blind.step(now, &Evidence::default(), &[Command::Start]);
    for _ in 0..10_000 {
        now = now.after(Duration::from_millis(100));
        let actions = blind.step(now, &Evidence::default(), &[]);
        assert!(actions.is_empty(), "decided on nothing: {actions:?}");
    }
    assert_eq!((blind.phase(), blind.status(now).step), (Phase::Running, 0));
}

/// Most evidence is lost, as when readings are missing or counters begin anew;
/// what is left must reach the floor by itself.
#[test]
fn lost_evidence_delays_and_never_promotes() {
    for seed in 0..20 {
        let healthy = Version::failing(0.0);
        let (mut rehearsal, mut watch) = started(spec(), seed, steady(healthy, healthy));
        let mut seen = 0;
        while rehearsal.rollout.step_number() == 0 {
            rehearsal.sleep(85);
            rehearsal.lose_evidence();
            let before = rehearsal.totals.canary_ok;
            watch.look(&mut rehearsal, &[]);
            seen += rehearsal.totals.canary_ok - before;
            assert!(rehearsal.seconds() < 300.0, "seed {seed}: never passed");
        }
        assert!(seen >= rehearsal.rollout.spec().analysis.min_requests, "seed {seed}: passed on {seen}");
    }
}

#[test]
fn same_seed_same_actions() {
    let play = |seed| {
        let world = steady(Version::failing(0.005), Version::failing(0.03));
        let (mut rehearsal, mut watch) = started(spec(), seed, world);
        finish(&mut rehearsal, &mut watch, 120.0);
        watch.actions
    };
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
    assert_ne!(play(0), play(1));
}

#[test]
fn checkpoint_restores_the_same_rollout_to_the_bit() {
    // What became of requests under way at a restart is not known, so proof that
    // needed their ends is not the same after it.
    let spec = || {
        let spec = spec();
        Spec { analysis: Analysis { promotion: None, ..spec.analysis.clone() }, ..spec }
    };
    for seed in 0..SEEDS / 4 {
        let canary = Version::failing(if seed % 2 == 0 { 0.005 } else { 0.05 }).slower(1.2);
        let world = move || steady(Version::failing(0.005), canary);
        let (mut straight, mut watched) = started(spec(), seed, world());
        let (mut broken, mut watch) = started(spec(), seed, world());
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
        for _ in 0..1_500 {
            watched.look(&mut straight, &[]);
            watch.look(&mut broken, &[]);
            if chance.random::<f64>() < 0.05 {
                broken.rollout = reborn(&broken.rollout, broken.now(), seed);
            }
        }
        assert_eq!(watched.actions, watch.actions, "seed {seed}");
    }
}

/// Through text and back, as the journal does it.
fn reborn(rollout: &Rollout, now: Moment, seed: u64) -> Rollout {
    let checkpoint = rollout.checkpoint();
    let text = serde_json::to_string(&checkpoint).expect("a checkpoint is plain data");
    assert!(text.len() < 20_000, "seed {seed}: a checkpoint of {} bytes", text.len());
    let read = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(checkpoint, read, "seed {seed}");
    Rollout::restore(rollout.spec().clone(), read, now)
}

/// Anything goes: commands at random, crashes back to the last checkpoint that
/// the shell would have written, reloads with another plan, lost evidence, stalls,
/// versions that come and go bad. [`Watch`] says what must hold.
#[test]
fn chaos_keeps_the_invariants() {
    const COMMANDS: [Command; 7] = [
        Command::Start,
        Command::Promote,
        Command::Abort,
        Command::Pause,
        Command::Resume,
        Command::Retry,
        Command::Start,
    ];
    for seed in 0..CHAOS {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5e12);
        let bad_from = 20.0 + 80.0 * chance.random::<f64>();
        let bad_for = 60.0 * chance.random::<f64>();
        let failure = chance.random::<f64>().powi(3);
        let shared = chance.random::<f64>() < 0.3;
        let world = move |at: f64| {
            let bad = (bad_from..bad_from + bad_for).contains(&at);
            let rate = |hit: bool| Version::failing(if hit { failure } else { 0.003 });
            World { requests_per_second: RPS, primary: rate(bad && shared), canary: rate(bad) }
        };
        let mut spec = spec();
        spec.analysis.hold_timeout = seconds(20);
        spec.analysis.on_shared = [OnShared::Hold, OnShared::Rollback, OnShared::Continue][seed as usize % 3];
        let (mut rehearsal, mut watch) = started(spec, seed, world);
        let mut written = (rehearsal.rollout.checkpoint(), rehearsal.rollout.windows());
        for _ in 0..1_000 {
            let mut commands = Vec::new();
            if chance.random::<f64>() < 0.01 {
                commands.push(COMMANDS[chance.random_range(0..COMMANDS.len())]);
            }
            match chance.random::<f64>() {
                x if x < 0.01 => rehearsal.lose_evidence(),
                x if x < 0.02 => rehearsal.sleep(chance.random_range(0..3_000)),
                x if x < 0.03 => {
                    crash(&mut rehearsal, &written.0, seed);
                    watch.come_back(&rehearsal);
                }
                x if x < 0.035 => {
                    reload(&mut rehearsal, &mut chance, seed);
                    watch.come_back(&rehearsal);
                }
                _ => {}
            }
            let told = watch.actions.len();
            watch.look(&mut rehearsal, &commands);
            if watch.actions.len() > told || rehearsal.rollout.windows() != written.1 {
                written = (rehearsal.rollout.checkpoint(), rehearsal.rollout.windows());
            }
        }
    }
}

/// The file is read again and asks for other steps and another analysis.
fn reload<W: Fn(f64) -> World>(rehearsal: &mut Rehearsal<W>, chance: &mut Xoshiro256PlusPlus, seed: u64) {
    let mut spec = rehearsal.rollout.spec().clone();
    let step = |parts: u32| Step::Weight { parts, hold: seconds(10) };
    spec.steps = (0..chance.random_range(1..5)).map(|at| step(500 << at)).collect();
    spec.analysis.min_requests = chance.random_range(1..100);
    spec.analysis.window = seconds(chance.random_range(0..20));
    rehearsal.rollout = Rollout::restore(spec, rehearsal.rollout.checkpoint(), rehearsal.now());
    let weight = rehearsal.rollout.weights().of("canary");
    assert_eq!(weight, rehearsal.parts(), "seed {seed}: a reload has moved the weight");
}

/// The process dies, and comes back with what it had written.
fn crash<W: Fn(f64) -> World>(rehearsal: &mut Rehearsal<W>, written: &serin::rollout::Checkpoint, seed: u64) {
    rehearsal.sleep(500);
    rehearsal.lose_evidence();
    let spec = rehearsal.rollout.spec().clone();
    rehearsal.rollout = Rollout::restore(spec, written.clone(), rehearsal.now());
    let restored = rehearsal.rollout.weights().of("canary");
    assert!(restored <= rehearsal.parts(), "seed {seed}: came back with more canary traffic");
}
