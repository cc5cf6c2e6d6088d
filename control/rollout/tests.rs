//! The engine by hand: what each command and verdict does in each phase. Evidence
//! here is blunt; `tests/simulation.rs` has the subtle kind.

use std::time::Duration;

use super::Action;
use super::Checkpoint;
use super::Command;
use super::EventKind;
use super::Phase;
use super::Rollout;
use super::Spec;
use super::spec::OnShared;
use super::spec::Step;
use super::spec::SuccessObjective;
use crate::clock::Moment;
use crate::judge::evidence::ArmDelta;
use crate::judge::evidence::Evidence;
use crate::judge::evidence::GenerationDelta;
use serin_proxy::weights::WHOLE;

fn spec(steps: &[Step]) -> Spec {
    Spec {
        name: "web".to_owned(),
        split: "web".to_owned(),
        primary: "old".to_owned(),
        canary: "new".to_owned(),
        steps: steps.to_vec(),
        bake: Duration::from_secs(5),
        // Steps here pass by their time; `tests/proof.rs` is about proof.
        analysis: super::spec::Analysis { promotion: None, ..super::spec::Analysis::default() },
        ..Spec::default()
    }
}

fn weight(percent: u32) -> Step {
    Step::Weight { parts: percent * 100, hold: Duration::from_secs(2) }
}

const FOREVER: Step = Step::Pause { hold: None };

/// A proxy with a hundred requests per tick, divided exactly by the weights.
struct World {
    rollout: Rollout,
    now: Moment,
    generation: u64,
    parts: u32,
    /// Parts of a canary request that are still owed.
    owed: u64,
    told: Vec<(EventKind, String)>,
}

impl World {
    fn new(spec: Spec) -> World {
        let rollout = Rollout::new(spec);
        World { rollout, now: Moment(5_000), generation: 1, parts: 0, owed: 0, told: Vec::new() }
    }

    /// One tick of 100 ms in which each version fails such a share.
    fn tick(&mut self, primary: f64, canary: f64, commands: &[Command]) {
        self.owed += u64::from(self.parts);
        let to_canary = self.owed / 100;
        self.owed %= 100;
        let evidence = Evidence {
            generations: vec![GenerationDelta {
                id: self.generation,
                w: f64::from(self.parts) / f64::from(WHOLE),
                canary: arm(to_canary, canary),
                primary: arm(100 - to_canary, primary),
                ..GenerationDelta::default()
            }],
            ..Evidence::default()
        };
        self.step(&evidence, commands);
    }

    fn step(&mut self, evidence: &Evidence, commands: &[Command]) {
        self.now = self.now.after(Duration::from_millis(100));
        for action in self.rollout.step(self.now, evidence, commands) {
            match action {
                Action::Shift { weights, .. } => {
                    self.parts = weights.of("new");
                    self.generation += 1;
                }
                Action::Tell { event } => self.told.push((event.kind, event.text)),
                Action::Renew => self.generation += 1,
                Action::Mark { .. } => {}
            }
        }
    }

    fn healthy(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.tick(0.0, 0.0, &[]);
        }
    }

    fn command(&mut self, command: Command) {
        self.tick(0.0, 0.0, &[command]);
    }

    fn phase(&self) -> Phase {
        self.rollout.phase()
    }

    fn last(&self) -> (EventKind, &str) {
        let (kind, text) = self.told.last().expect("something was told");
        (*kind, text)
    }

    fn until(&mut self, phase: Phase, primary: f64, canary: f64, most: u32) {
        for _ in 0..most {
            if self.phase() == phase {
                return;
            }
            self.tick(primary, canary, &[]);
        }
        panic!("still {:?} after {most} ticks: {}", self.phase(), self.rollout.status(self.now).sentence);
    }
}

fn arm(requests: u64, failing: f64) -> ArmDelta {
    let failed = (requests as f64 * failing).round() as u64;
    ArmDelta { dispatched: requests, ok: requests - failed, failed, ..ArmDelta::default() }
}

#[test]
fn passes_through_all_steps_and_the_bake() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.healthy(3);
    assert_eq!((world.phase(), world.parts), (Phase::Idle, 0));
    world.command(Command::Start);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
    world.healthy(19);
    assert_eq!(world.parts, 1_000, "the step lasts its two seconds");
    world.healthy(1);
    assert_eq!(world.parts, 5_000);
    world.healthy(20);
    assert_eq!((world.phase(), world.parts), (Phase::Baking, WHOLE));
    world.healthy(50);
    assert_eq!((world.phase(), world.parts), (Phase::Succeeded, WHOLE));
    let kinds: Vec<EventKind> = world.told.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [EventKind::Started, EventKind::Step, EventKind::Promoted, EventKind::Baked]);
}

#[test]
fn endless_pause_waits_for_a_word() {
    for word in [Command::Resume, Command::Promote] {
        let mut world = World::new(spec(&[weight(10), FOREVER, weight(50)]));
        world.command(Command::Start);
        world.healthy(500);
        assert_eq!((world.phase(), world.parts), (Phase::Paused, 1_000));
        world.command(word);
        assert_eq!((world.phase(), world.parts), (Phase::Running, 5_000));
    }
}

#[test]
fn pause_by_command_freezes_progress_and_not_the_judge() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.command(Command::Start);
    world.healthy(10);
    world.command(Command::Pause);
    world.healthy(100);
    assert_eq!((world.phase(), world.parts), (Phase::Paused, 1_000));
    world.command(Command::Resume);
    world.healthy(8);
    assert_eq!(world.parts, 1_000, "time in the pause does not count");
    world.healthy(3);
    assert_eq!(world.parts, 5_000);
    world.command(Command::Pause);
    world.until(Phase::RolledBack, 0.0, 1.0, 600);
}

#[test]
fn promote_at_the_last_step_promotes_and_ends_the_bake() {
    let mut world = World::new(spec(&[weight(10)]));
    world.command(Command::Start);
    world.command(Command::Promote);
    assert_eq!((world.phase(), world.parts), (Phase::Baking, WHOLE));
    world.command(Command::Promote);
    assert_eq!((world.phase(), world.parts), (Phase::Succeeded, WHOLE));
}

#[test]
fn commands_out_of_place_are_refused_with_the_reason_and_change_nothing() {
    let mut world = World::new(spec(&[weight(10)]));
    let refused = |world: &mut World, command, reason: &str| {
        let before = (world.phase(), world.parts);
        world.command(command);
        assert_eq!(world.last(), (EventKind::Refused, reason));
        assert_eq!((world.phase(), world.parts), before);
    };
    refused(&mut world, Command::Abort, "cannot abort: it is idle");
    refused(&mut world, Command::Promote, "cannot promote: it is idle");
    let again = "only what was rolled back or aborted can be tried again";
    refused(&mut world, Command::Retry, &format!("cannot retry: it is idle; {again}"));
    world.command(Command::Start);
    refused(&mut world, Command::Start, "cannot start: it is running already");
    refused(&mut world, Command::Resume, "cannot resume: it is running, not paused");
    world.command(Command::Pause);
    refused(&mut world, Command::Pause, "cannot pause: it is paused already");
    world.command(Command::Abort);
    refused(&mut world, Command::Promote, "cannot promote: it is aborted");
}

#[test]
fn abort_ends_at_zero_until_retried() {
    let mut world = World::new(spec(&[weight(10)]));
    world.command(Command::Start);
    world.command(Command::Abort);
    assert_eq!((world.phase(), world.parts), (Phase::Aborted, 0));
    world.healthy(100);
    assert_eq!((world.phase(), world.parts), (Phase::Aborted, 0));
    world.command(Command::Retry);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
}

#[test]
fn bad_canary_is_first_a_trickle_then_gone() {
    let mut world = World::new(spec(&[weight(10)]));
    world.healthy(50);
    world.command(Command::Start);
    world.tick(0.0, 1.0, &[]);
    assert_eq!(world.phase(), Phase::Suspended);
    // One request per second of about a thousand.
    assert!((9..=10).contains(&world.parts), "{}", world.parts);
    world.command(Command::Promote);
    assert_eq!(world.last().0, EventKind::Refused);
    for _ in 0..400 {
        let evidence = trickle(&world, ArmDelta { dispatched: 1, failed: 1, ..ArmDelta::default() });
        world.step(&evidence, &[]);
    }
    assert_eq!((world.phase(), world.parts), (Phase::RolledBack, 0));
    let (kind, text) = world.last();
    assert_eq!(kind, EventKind::RolledBack);
    assert!(text.starts_with("ROLLBACK (worse): "), "{text}");
}

fn trickle(world: &World, canary: ArmDelta) -> Evidence {
    let w = f64::from(world.parts) / f64::from(WHOLE);
    let delta = GenerationDelta {
        id: world.generation,
        w,
        canary,
        primary: arm(1_000, 0.0),
        ..GenerationDelta::default()
    };
    Evidence { generations: vec![delta], ..Evidence::default() }
}

#[test]
fn clean_probes_give_the_weight_back() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.healthy(50);
    world.command(Command::Start);
    world.tick(0.0, 1.0, &[]);
    assert_eq!(world.phase(), Phase::Suspended);
    for _ in 0..19 {
        let evidence = trickle(&world, arm(1, 0.0));
        world.step(&evidence, &[]);
    }
    assert_eq!(world.phase(), Phase::Suspended, "nineteen are not twenty");
    let evidence = trickle(&world, arm(1, 0.0));
    world.step(&evidence, &[]);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
    assert_eq!(world.last().0, EventKind::Probed);
}

#[test]
fn without_the_burst_guard_certainty_is_enough() {
    let mut spec = spec(&[weight(10)]);
    spec.analysis.window = Duration::ZERO;
    let mut world = World::new(spec);
    world.command(Command::Start);
    world.tick(0.0, 1.0, &[]);
    assert_eq!(world.phase(), Phase::RolledBack);
}

fn both_fail(on_shared: OnShared) -> World {
    let mut spec = spec(&[Step::Weight { parts: 1_000, hold: Duration::from_secs(600) }]);
    spec.analysis.success = Some(SuccessObjective { min: 0.99, share: 0.5 });
    spec.analysis.on_shared = on_shared;
    spec.analysis.hold_timeout = Duration::from_secs(30);
    let mut world = World::new(spec);
    world.healthy(50);
    world.command(Command::Start);
    world.until(Phase::Held, 0.5, 0.5, 900);
    assert_eq!(world.parts, 1_000, "a hold freezes the weight");
    assert!(world.last().1.starts_with("HOLD (shared): "), "{}", world.last().1);
    world
}

#[test]
fn shared_cause_ends_as_the_spec_says() {
    let mut world = both_fail(OnShared::Rollback);
    world.until(Phase::RolledBack, 0.5, 0.5, 310);

    let mut world = both_fail(OnShared::Hold);
    for _ in 0..400 {
        world.tick(0.5, 0.5, &[]);
    }
    assert_eq!(world.phase(), Phase::Held);

    let mut world = both_fail(OnShared::Continue);
    world.until(Phase::Running, 0.5, 0.5, 310);
    for _ in 0..400 {
        world.tick(0.5, 0.5, &[]);
    }
    assert_eq!(world.phase(), Phase::Running, "the objective was set aside");
    assert!(world.rollout.status(world.now).warnings[0].contains("set aside"));
}

#[test]
fn hold_is_released_when_the_outage_is_over() {
    let mut world = both_fail(OnShared::Hold);
    world.until(Phase::Running, 0.0, 0.0, 3_000);
    assert_eq!(world.last().0, EventKind::Released);
}

#[test]
fn resume_lifts_a_hold() {
    let mut world = both_fail(OnShared::Hold);
    world.tick(0.5, 0.5, &[Command::Resume]);
    assert_eq!(world.phase(), Phase::Running);
}

#[test]
fn unfair_coin_is_held() {
    let mut world = World::new(spec(&[Step::Weight { parts: 1_000, hold: Duration::from_secs(600) }]));
    world.command(Command::Start);
    for _ in 0..100 {
        let delta = GenerationDelta {
            id: world.generation,
            w: 0.1,
            canary: arm(20, 0.0),
            primary: arm(80, 0.0),
            ..GenerationDelta::default()
        };
        world.step(&Evidence { generations: vec![delta], ..Evidence::default() }, &[]);
    }
    assert_eq!(world.phase(), Phase::Held);
    assert!(world.last().1.starts_with("HOLD (routing does not follow the weights)"), "{}", world.last().1);
}

#[test]
fn objective_that_the_primary_breaks_is_left_out() {
    let mut spec = spec(&[weight(10)]);
    spec.analysis.success = Some(SuccessObjective { min: 0.99, share: 0.15 });
    let mut world = World::new(spec);
    for _ in 0..100 {
        world.tick(0.05, 0.0, &[]);
    }
    world.command(Command::Start);
    let status = world.rollout.status(world.now);
    assert!(status.tests.iter().all(|test| test.test != "success"), "{:?}", status.tests);
    assert!(status.warnings[0].contains("99 % success"), "{:?}", status.warnings);
    let shares: f64 = status.tests.iter().map(|test| test.share).sum();
    assert!((shares - 1.0).abs() < 1e-12);
}

#[test]
fn too_few_answers_keep_the_step_and_say_so() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.command(Command::Start);
    for _ in 0..100 {
        world.step(&Evidence::default(), &[]);
    }
    let status = world.rollout.status(world.now);
    assert_eq!((status.step, status.step_progress), (0, 1.0));
    assert!(status.sentence.ends_with("10 more canary answers needed before this can pass"));
}

#[test]
fn answers_of_an_earlier_weight_do_not_count() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.command(Command::Start);
    world.healthy(20);
    assert_eq!(world.parts, 5_000);
    for _ in 0..100 {
        let late = GenerationDelta {
            id: world.generation - 1,
            w: 0.1,
            canary: ArmDelta { ok: 5, ..ArmDelta::default() },
            ..GenerationDelta::default()
        };
        world.step(&Evidence { generations: vec![late], ..Evidence::default() }, &[]);
    }
    assert_eq!(world.rollout.status(world.now).step, 1);
}

#[test]
fn equal_weights_in_a_row_pass() {
    let mut world =
        World::new(spec(&[weight(10), Step::Pause { hold: Some(Duration::from_secs(1)) }, weight(10)]));
    world.command(Command::Start);
    world.until(Phase::Baking, 0.0, 0.0, 60);
}

fn reread(checkpoint: &Checkpoint) -> Checkpoint {
    let text = serde_json::to_string(checkpoint).expect("plain data");
    serde_json::from_str(&text).expect("what was written reads back")
}

#[test]
fn restart_keeps_place_weight_and_time() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.command(Command::Start);
    world.healthy(15);
    let checkpoint = reread(&world.rollout.checkpoint());
    let later = world.now.after(Duration::from_secs(3_600));
    let restored = Rollout::restore(world.rollout.spec().clone(), checkpoint.clone(), later);
    assert_eq!(restored.weights(), world.rollout.weights());
    let status = restored.status(later);
    assert_eq!((status.phase, status.step), (Phase::Running, 0));
    assert!((status.step_progress - 0.75).abs() < 1e-9, "the hour that nobody watched does not count");

    // Fewer steps than before: the last one from its start, at the same weight.
    world.healthy(5);
    assert_eq!(world.parts, 5_000);
    let restored = Rollout::restore(spec(&[weight(20)]), reread(&world.rollout.checkpoint()), later);
    assert_eq!(restored.weights().of("new"), 5_000);
    assert_eq!(restored.status(later).step_progress, 0.0);

    // Another canary is another rollout.
    let other = Spec { canary: "newer".to_owned(), ..spec(&[weight(20)]) };
    let restored = Rollout::restore(other, checkpoint, later);
    assert_eq!((restored.phase(), restored.weights().of("newer")), (Phase::Idle, 0));
}

#[test]
fn pinned_users_are_warned_about() {
    let mut world = World::new(spec(&[weight(10)]));
    world.command(Command::Start);
    world.step(&Evidence { sticky: true, ..Evidence::default() }, &[]);
    assert!(world.rollout.status(world.now).warnings[0].contains("per user"));
}

mod answers;
mod strategies;
