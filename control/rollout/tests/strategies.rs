//! Trials, queues, hours, commands that stop a rollout, and the way back.

use super::*;
use crate::judge::evidence::Pairs;
use crate::rollout::spec::Hours;
use crate::rollout::spec::Site;
use crate::rollout::spec::Span;
use crate::rollout::spec::WayBack;
use serin_proxy::Weights;

fn trial(matched: u32, copied: u32) -> Step {
    Step::Trial { matched, copied, hold: Duration::from_secs(2) }
}

/// Copies first, then a weight.
fn copying() -> Spec {
    let mut spec = spec(&[trial(0, 5_000), weight(10)]);
    spec.analysis.mirrored = spec.analysis.relative_failures;
    spec
}

impl World {
    fn weights(&self) -> Weights {
        self.rollout.weights()
    }

    /// A tick in which so many requests matched and all went to the canary, and
    /// so many were copied to it.
    fn on_trial(&mut self, matched: ArmDelta, pairs: Pairs) {
        let of = |w, canary, primary| GenerationDelta {
            id: self.generation,
            w,
            canary,
            primary,
            ..GenerationDelta::default()
        };
        let share = f64::from(self.weights().matched()) / f64::from(WHOLE);
        let mut generations = vec![of(0.0, ArmDelta::default(), arm(50, 0.0))];
        // Of those that match and whom the coin leaves with the primary, the fitting number.
        let others = if share > 0.0 { matched.dispatched as f64 * (1.0 - share) / share } else { 0.0 };
        generations.push(of(share, matched, arm(others as u64, 0.0)));
        let evidence = Evidence { generations, pairs, ..Evidence::default() };
        self.step(&evidence, &[]);
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.told.iter().map(|(kind, _)| *kind).collect()
    }
}

#[test]
fn a_trial_gives_the_canary_what_matches_and_no_weight() {
    let mut world = World::new(spec(&[trial(WHOLE, 0), weight(10)]));
    world.command(Command::Start);
    assert_eq!(world.weights(), Weights::pair("old", "new", 0).on_trial(WHOLE, 0));
    world.healthy(30);
    assert_eq!(world.rollout.status(world.now).step, 0, "nobody matched, and no data is no success");
    for _ in 0..3 {
        world.on_trial(arm(5, 0.0), Pairs::default());
    }
    assert_eq!(world.weights(), Weights::pair("old", "new", 1_000), "weights follow, and rules hold no more");
}

#[test]
fn copies_alone_can_pass_a_trial_and_can_end_it() {
    let mut world = World::new(copying());
    world.healthy(20);
    world.command(Command::Start);
    assert_eq!(world.weights().copied(), 5_000);
    for _ in 0..20 {
        world.on_trial(ArmDelta::default(), Pairs { neither: 5, ..Pairs::default() });
    }
    assert_eq!(world.weights().of("new"), 1_000);

    let mut world = World::new(copying());
    world.healthy(20);
    world.command(Command::Start);
    for _ in 0..600 {
        world.on_trial(ArmDelta::default(), Pairs { canary_only: 5, ..Pairs::default() });
        if world.phase() == Phase::RolledBack {
            break;
        }
    }
    assert_eq!(world.phase(), Phase::RolledBack, "{}", world.rollout.status(world.now).sentence);
    assert_eq!(world.weights(), Weights::pair("old", "new", 0), "no more copies");
}

#[test]
fn a_suspicion_by_copies_is_answered_by_copies() {
    let mut world = World::new(copying());
    world.healthy(20);
    world.command(Command::Start);
    world.on_trial(ArmDelta::default(), Pairs { canary_only: 60, ..Pairs::default() });
    let sentence = world.rollout.status(world.now).sentence;
    assert_eq!(world.phase(), Phase::Suspended, "{sentence}");
    assert!(sentence.contains("of 60 mirrored requests the canary alone failed 60"), "{sentence}");
    for _ in 0..6 {
        world.on_trial(ArmDelta::default(), Pairs { neither: 5, ..Pairs::default() });
    }
    assert_eq!((world.phase(), world.weights().copied()), (Phase::Running, 5_000));
    assert!(world.kinds().contains(&EventKind::Probed), "{:?}", world.told);
}

#[test]
fn what_fails_both_ways_is_not_the_canarys() {
    let mut world = World::new(copying());
    world.healthy(20);
    world.command(Command::Start);
    for _ in 0..100 {
        world.on_trial(ArmDelta::default(), Pairs { both: 5, ..Pairs::default() });
    }
    assert_ne!(world.phase(), Phase::RolledBack);
    assert!(world.told.iter().all(|(kind, _)| *kind != EventKind::Suspended), "{:?}", world.told);
}

#[test]
fn an_objective_ends_a_trial_of_what_matches_and_first_cuts_it_to_a_trickle() {
    let mut spec = spec(&[trial(WHOLE, 0), weight(10)]);
    spec.analysis.success = Some(SuccessObjective { min: 0.99, share: 0.15 });
    let mut world = World::new(spec);
    world.healthy(20);
    world.command(Command::Start);
    world.on_trial(arm(20, 1.0), Pairs::default());
    assert_eq!(world.phase(), Phase::Suspended, "{}", world.rollout.status(world.now).sentence);
    assert!((1..WHOLE).contains(&world.weights().matched()), "{:?}", world.weights());
    for _ in 0..600 {
        world.on_trial(arm(1, 1.0), Pairs::default());
    }
    assert_eq!((world.phase(), world.weights()), (Phase::RolledBack, Weights::pair("old", "new", 0)));
}

#[test]
fn a_pause_after_a_trial_keeps_it() {
    let mut world = World::new(spec(&[trial(WHOLE, 1_000), FOREVER, weight(10)]));
    world.command(Command::Start);
    world.command(Command::Promote);
    assert_eq!((world.phase(), world.weights().matched()), (Phase::Paused, WHOLE));
    world.command(Command::Promote);
    assert_eq!(world.weights(), Weights::pair("old", "new", 1_000));
}

#[test]
fn blue_green_switches_at_once_after_its_preview() {
    let mut world = World::new(spec(&[trial(WHOLE, 0)]));
    world.command(Command::Start);
    for _ in 0..25 {
        world.on_trial(arm(5, 0.0), Pairs::default());
    }
    assert_eq!((world.phase(), world.parts), (Phase::Baking, WHOLE));
    world.command(Command::Rollback);
    assert_eq!((world.phase(), world.parts), (Phase::RolledBack, 0));
}

#[test]
fn old_version_is_kept_for_who_wants_it_back_and_then_may_go() {
    let kept = Spec { keep_old: Duration::from_secs(3), ..spec(&[weight(50)]) };
    let done = |world: &mut World| {
        world.command(Command::Start);
        world.until(Phase::Succeeded, 0.0, 0.0, 200);
    };
    let mut world = World::new(kept.clone());
    done(&mut world);
    assert!(world.rollout.status(world.now).doing.contains("kept for another"));
    world.command(Command::Rollback);
    assert_eq!((world.phase(), world.parts), (Phase::RolledBack, 0));

    let mut world = World::new(kept);
    done(&mut world);
    world.healthy(31);
    assert_eq!(world.last().0, EventKind::Retired);
    world.command(Command::Rollback);
    assert_eq!(world.last().0, EventKind::Refused);
    assert_eq!((world.phase(), world.parts), (Phase::Succeeded, WHOLE));

    let mut world = World::new(spec(&[weight(50)]));
    done(&mut world);
    world.healthy(1);
    world.command(Command::Rollback);
    assert_eq!(world.last().0, EventKind::Refused, "without keepOld it may be gone at once");
}

#[test]
fn frozen_means_that_not_even_the_judge_moves_anything() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.healthy(50);
    world.command(Command::Start);
    world.command(Command::Freeze);
    for _ in 0..200 {
        world.tick(0.0, 1.0, &[]);
    }
    assert_eq!((world.phase(), world.parts), (Phase::Paused, 1_000));
    assert!(world.rollout.status(world.now).sentence.contains("frozen"));
    world.tick(0.0, 1.0, &[Command::Resume]);
    world.until(Phase::RolledBack, 0.0, 1.0, 600);
}

#[test]
fn suspended_by_hand_is_a_trickle_until_resumed_and_the_judge_can_still_end_it() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.healthy(50);
    world.command(Command::Start);
    world.command(Command::Suspend);
    assert_eq!(world.phase(), Phase::Suspended);
    assert!((1..=10).contains(&world.parts), "{}", world.parts);
    world.healthy(300);
    assert_eq!(world.phase(), Phase::Suspended, "clean answers do not end what a hand began");
    world.command(Command::Promote);
    assert_eq!(world.last().0, EventKind::Refused);
    world.command(Command::Resume);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
}

#[test]
fn skip_promotes_at_once_and_the_bake_still_watches() {
    let mut world = World::new(spec(&[weight(10), FOREVER, weight(50)]));
    world.healthy(50);
    world.command(Command::Start);
    world.command(Command::Skip);
    assert_eq!((world.phase(), world.parts), (Phase::Baking, WHOLE));
    world.until(Phase::RolledBack, 0.0, 1.0, 600);
}

#[test]
fn a_rollout_without_analysis_passes_whatever_the_canary_does() {
    let mut spec = spec(&[weight(10)]);
    spec.skip_analysis = true;
    let mut world = World::new(spec);
    world.command(Command::Start);
    assert_eq!((world.phase(), world.parts), (Phase::Baking, WHOLE));
    world.until(Phase::Succeeded, 0.0, 1.0, 60);
}

/// Promoted, after a while of a healthy primary.
fn baking() -> World {
    let bake = Duration::from_secs(600);
    let mut world = World::new(Spec { bake, ..spec(&[weight(50)]) });
    world.healthy(50);
    world.command(Command::Start);
    world.until(Phase::Baking, 0.0, 0.0, 200);
    world
}

#[test]
fn after_promotion_without_an_objective_the_old_version_is_asked_whose_it_is() {
    let mut world = baking();
    world.until(Phase::Suspended, 0.0, 0.1, 60);
    assert!(world.parts < 1_000, "{}", world.parts);
    let sentence = world.rollout.status(world.now).sentence;
    assert!(sentence.starts_with("SUSPEND (confirming): with no primary beside it "), "{sentence}");
    world.until(Phase::RolledBack, 0.0, 1.0, 3_000);
    let (_, why) = world.last();
    assert!(why.starts_with("ROLLBACK (worse): "), "{why}");
}

#[test]
fn what_breaks_for_both_after_promotion_rolls_nothing_back() {
    let mut world = baking();
    world.until(Phase::Suspended, 0.6, 0.6, 60);
    for _ in 0..600 {
        world.tick(0.6, 0.6, &[]);
    }
    assert_eq!(world.phase(), Phase::Suspended, "{:?}", world.told);
    world.until(Phase::Baking, 0.0, 0.0, 600);
    world.until(Phase::Succeeded, 0.0, 0.0, 6_100);
}

#[test]
fn a_canary_that_fails_only_by_itself_is_held_for_somebody_to_look() {
    let mut world = baking();
    for _ in 0..3 {
        world.until(Phase::Suspended, 0.0, 0.1, 60);
        world.until(Phase::Baking, 0.0, 0.0, 600);
    }
    world.until(Phase::Held, 0.0, 0.1, 60);
    assert_eq!(world.parts, WHOLE);
    let sentence = world.rollout.status(world.now).sentence;
    assert!(sentence.starts_with("HOLD (shared): with no primary beside it "), "{sentence}");
}

#[test]
fn steps_before_the_first_judged_one_are_not_judged() {
    let mut spec = spec(&[weight(10), weight(20)]);
    spec.judged_from = 1;
    let mut world = World::new(spec);
    world.healthy(50);
    world.command(Command::Start);
    for _ in 0..15 {
        world.tick(0.0, 1.0, &[]);
    }
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
    world.until(Phase::Suspended, 0.0, 1.0, 20);
}

fn open_at(from: u16, until: u16) -> Hours {
    Hours { zone: "UTC".to_owned(), spans: vec![Span { days: 0b111_1111, from, until }] }
}

#[test]
fn weights_rise_only_within_the_hours_and_fall_at_any_time() {
    let mut spec = spec(&[weight(10), weight(50)]);
    spec.hours = Some(open_at(0, 1));
    let mut world = World::new(spec);
    world.now = Moment(58_500);
    world.command(Command::Start);
    assert_eq!(world.parts, 1_000);
    world.healthy(50);
    assert_eq!(world.parts, 1_000, "its time is over, and so are its hours");
    assert!(world.rollout.status(world.now).sentence.contains("outside its hours"), "{:?}", world.told);
    world.command(Command::Promote);
    assert_eq!(world.parts, 5_000, "a person may");
    world.command(Command::Abort);
    assert_eq!(world.parts, 0);
    world.command(Command::Retry);
    assert_eq!((world.phase(), world.parts), (Phase::Queued, 0));
    world.now = Moment(24 * 3_600_000);
    world.healthy(1);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
}

#[test]
fn a_rollout_that_takes_turns_waits_to_be_admitted() {
    let mut spec = spec(&[weight(10)]);
    spec.after = vec!["api".to_owned()];
    let mut world = World::new(spec);
    world.command(Command::Start);
    world.healthy(100);
    assert_eq!((world.phase(), world.parts), (Phase::Queued, 0));
    assert!(world.rollout.may_be_admitted(world.now));
    let restored = reread(&world.rollout.checkpoint());
    world.rollout = Rollout::restore(world.rollout.spec().clone(), restored, world.now);
    world.command(Command::Admit);
    assert_eq!((world.phase(), world.parts), (Phase::Running, 1_000));
    world.command(Command::Abort);
    world.command(Command::Retry);
    world.command(Command::Abort);
    assert_eq!(world.phase(), Phase::Aborted, "who waits can be sent away");
}

fn coming_back() -> World {
    let way_back = Some(WayBack { by: 4_000, every: Duration::from_secs(2) });
    let mut world = World::new(Spec { way_back, ..spec(&[weight(50)]) });
    world.command(Command::Start);
    world.until(Phase::Promoting, 0.0, 0.0, 200);
    world
}

#[test]
fn traffic_goes_back_in_portions_once_the_primary_is_new() {
    let mut world = coming_back();
    assert_eq!((world.last().0, world.parts), (EventKind::HandedOver, WHOLE));
    world.healthy(100);
    assert_eq!(world.parts, WHOLE, "it waits for the primary");
    assert!(world.rollout.awaits_primary());
    world.command(Command::Arrived);
    let mut seen = vec![world.parts];
    for _ in 0..100 {
        world.healthy(1);
        if seen.last() != Some(&world.parts) {
            seen.push(world.parts);
        }
    }
    assert_eq!(seen, [6_000, 2_000, 0]);
    assert_eq!((world.phase(), world.last().0), (Phase::Succeeded, EventKind::Baked));
}

#[test]
fn a_primary_that_is_worse_with_the_new_version_gets_nothing_back() {
    let mut world = coming_back();
    world.healthy(300);
    world.command(Command::Promote);
    assert_eq!(world.parts, 6_000);
    for _ in 0..20 {
        world.tick(0.8, 0.0, &[]);
    }
    assert_eq!((world.phase(), world.parts), (Phase::Promoting, WHOLE));
    assert!(world.kinds().contains(&EventKind::TurnedBack), "{:?}", world.told);
    assert!(!world.rollout.awaits_primary(), "and not by itself again");
    world.command(Command::Promote);
    assert_eq!(world.parts, 6_000, "a person may try again");
    world.command(Command::Abort);
    assert_eq!(world.parts, WHOLE, "from here the way out is the version that did well");
    world.command(Command::Abort);
    assert_eq!((world.phase(), world.parts), (Phase::Aborted, 0));
}

#[test]
fn several_splits_move_together() {
    let api = Site { split: "api".to_owned(), primary: "v1".to_owned(), canary: "v2".to_owned() };
    let mut world = World::new(Spec { also: vec![api], ..spec(&[weight(10)]) });
    world.command(Command::Start);
    let all: Vec<_> = world.rollout.all_weights().collect();
    assert_eq!(
        all,
        [
            ("web".to_owned(), Weights::pair("old", "new", 1_000)),
            ("api".to_owned(), Weights::pair("v1", "v2", 1_000))
        ]
    );
}

#[test]
fn a_baseline_has_the_canarys_share_and_keeps_it_while_the_canary_is_suspended() {
    let mut spec = spec(&[weight(10), weight(60)]);
    spec.baseline = Some("again".to_owned());
    let mut world = World::new(spec);
    world.healthy(50);
    world.command(Command::Start);
    let of = |world: &World| ["old", "new", "again"].map(|version| world.weights().of(version));
    assert_eq!(of(&world), [8_000, 1_000, 1_000]);
    world.command(Command::Suspend);
    assert_eq!(of(&world)[2], 1_000);
    world.command(Command::Resume);
    world.command(Command::Promote);
    assert_eq!(of(&world), [0, 6_000, 4_000]);
    world.command(Command::Promote);
    assert_eq!(of(&world), [0, WHOLE, 0]);
}

/// As it was written before there were trials.
#[test]
fn an_older_checkpoint_is_read() {
    let mut world = World::new(spec(&[weight(10), weight(50)]));
    world.command(Command::Start);
    let mut value = serde_json::to_value(world.rollout.checkpoint()).expect("plain data");
    let fields = value.as_object_mut().expect("a checkpoint is an object");
    for new in ["matched", "copied", "frozen", "also", "old_kept", "turned_back", "successor"] {
        assert!(fields.remove(new).is_some(), "{new}");
    }
    let read: Checkpoint = serde_json::from_value(value).expect("it has defaults for what is new");
    let restored = Rollout::restore(world.rollout.spec().clone(), read, world.now);
    assert_eq!((restored.phase(), restored.weights()), (Phase::Running, world.weights()));
}
