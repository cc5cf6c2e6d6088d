//! Answers that differ: told, held, or held against the canary; and copies that stop.

use super::*;
use crate::judge::evidence::Answers;
use crate::judge::evidence::Pairs;
use crate::rollout::spec::OnDifference;

/// A rollout under way in its step of copies.
fn copying(answers: OnDifference) -> World {
    let copies = Step::Trial { matched: 0, copied: 5_000, hold: Duration::from_secs(60) };
    let mut spec = spec(&[copies, weight(10)]);
    spec.analysis.answers = answers;
    spec.analysis.mirrored = spec.analysis.relative_failures;
    let mut world = World::new(spec);
    world.healthy(20);
    world.command(Command::Start);
    world
}

impl World {
    /// A look at one more answer compared, and five copies that nobody failed.
    fn compared(&mut self, differing: &[&str], log_factor: f64) {
        let answers = Answers {
            compared: 1,
            canary_only: u64::from(log_factor > 0.0),
            log_factor,
            differing: differing.len() as u64,
            places: differing.iter().map(|place| (*place).to_owned()).collect(),
        };
        let pairs = Pairs { neither: 5, ..Pairs::default() };
        self.step(&Evidence { answers: Some(answers), pairs, ..Evidence::default() }, &[]);
    }

    fn told_of(&self, kind: EventKind) -> Vec<&str> {
        let told = self.told.iter().filter(|(told, _)| *told == kind);
        told.map(|(_, text)| text.as_str()).collect()
    }

    fn sentence(&self) -> String {
        self.rollout.status(self.now).sentence
    }
}

#[test]
fn a_difference_is_told_once_and_stops_nothing_unless_asked_to() {
    let mut world = copying(OnDifference::Report);
    world.compared(&[], 0.0);
    assert!(
        world.sentence().contains("1 answers compared, none differs by the canary"),
        "{}",
        world.sentence()
    );
    for _ in 0..3 {
        world.compared(&["$.a"], 5.0);
    }
    world.compared(&["$.a", "status"], 5.0);
    let told = world.told_of(EventKind::Differs);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("differ at $.a, status;"), "{told:?}");
    assert_eq!(world.phase(), Phase::Running);
    assert!(world.told_of(EventKind::Suspended).is_empty(), "no evidence is made of it");
}

#[test]
fn a_difference_holds_until_somebody_accepts_it_and_another_holds_again() {
    for command in [Command::Resume, Command::Promote] {
        let mut world = copying(OnDifference::Hold);
        world.compared(&["$.a"], 5.0);
        assert_eq!(world.phase(), Phase::Held);
        assert!(world.told_of(EventKind::Held)[0].starts_with("HOLD (answers differ): "));
        for _ in 0..1_000 {
            world.compared(&["$.a"], 5.0);
        }
        assert_eq!((world.phase(), world.told_of(EventKind::Held).len()), (Phase::Held, 1));
        world.command(command);
        world.compared(&["$.a"], 5.0);
        assert_eq!(world.phase(), Phase::Running, "{command:?}");
        world.compared(&["$.a", "$.b"], 5.0);
        assert_eq!((world.phase(), world.told_of(EventKind::Held).len()), (Phase::Held, 2));
    }
}

#[test]
fn differences_are_one_more_test_of_the_same_budget_where_they_roll_back() {
    let mut world = copying(OnDifference::Rollback);
    let tests = world.rollout.status(world.now).tests;
    let share: f64 = tests.iter().map(|test| test.share).sum();
    assert!((share - 1.0).abs() < 1e-9 && tests.iter().any(|test| test.test == "answers"), "{tests:?}");
    for _ in 0..600 {
        world.compared(&["$.a"], 2.0_f64.ln() * 0.9);
        if world.phase() == Phase::RolledBack {
            break;
        }
    }
    assert_eq!(world.phase(), Phase::RolledBack, "{}", world.sentence());
    let told = world.told_of(EventKind::RolledBack);
    assert!(told[0].starts_with("ROLLBACK (answers differ): of ") && told[0].contains("at $.a;"), "{told:?}");
}

#[test]
fn a_start_knows_nothing_of_the_answers_before_it() {
    let mut world = copying(OnDifference::Hold);
    world.compared(&["$.a"], 5.0);
    world.command(Command::Abort);
    world.command(Command::Retry);
    let status = world.rollout.status(world.now);
    assert_eq!((status.phase, status.answers_compared, status.answers_differing), (Phase::Running, 0, 0));
}

#[test]
fn suspended_by_hand_no_copies_are_made_and_resumed_they_are() {
    let mut world = copying(OnDifference::Report);
    assert_eq!(world.rollout.weights().copied(), 5_000);
    world.command(Command::Suspend);
    assert_eq!((world.phase(), world.rollout.weights().copied()), (Phase::Suspended, 0));
    world.healthy(20);
    assert_eq!(world.rollout.weights().copied(), 0);
    world.command(Command::Resume);
    assert_eq!((world.phase(), world.rollout.weights().copied()), (Phase::Running, 5_000));
}
