//! What starts, goes on or ends when the process or the file changes. It knows no
//! sockets; files are texts.

use super::*;
use crate::config;
use crate::judge::evidence::Evidence;
use crate::rollout::{Command, EventKind};

const ROLLOUT: &str = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}, {weight: 50, for: 60s}]\n";

/// A file with these canary weights, a canary at this port, and these rollouts.
fn file(parts: u32, port: u16, rollouts: &str) -> Loaded {
    let text = format!(
        "listen: 127.0.0.1:0\nservices:\n  web:\n    primary: 127.0.0.1:9001\n    canary: 127.0.0.1:{port}\n    \
         weights: {{primary: {}, canary: {parts}}}\n{rollouts}",
        100 - parts
    );
    config::load("test.yaml", &text, &config::Files::none()).expect("the test's file is good")
}

fn canary(model: &Model) -> u32 {
    model.splits[0].weights.of("canary")
}

fn started(loaded: &Loaded) -> Fleet {
    let mut fleet = Fleet::restore(loaded, Past::default(), Moment(1_000));
    fleet.rollouts[0].rollout.step(Moment(1_000), &Evidence::default(), &[Command::Start]);
    fleet
}

/// What the journal would say of a fleet.
fn past(fleet: &Fleet) -> Past {
    let governed = &fleet.rollouts[0];
    let checkpoint = Some(serde_json::to_value(governed.rollout.checkpoint()).unwrap());
    let rollout = PastRollout { at: Moment(1_000), canary: governed.canary.clone(), checkpoint };
    Past {
        rollouts: BTreeMap::from([("web".to_owned(), rollout)]),
        weights: fleet.manual.clone(),
        ..Past::default()
    }
}

#[test]
fn rollout_under_way_is_restored_with_its_weight() {
    let loaded = file(0, 9002, ROLLOUT);
    let restored = Fleet::restore(&loaded, past(&started(&loaded)), Moment(9_000));
    assert_eq!(restored.rollouts[0].phase(), Phase::Running);
    assert_eq!(canary(&restored.model_at_start(&loaded)), 2_000);
}

#[test]
fn a_fall_that_was_not_written_comes_back_and_an_older_one_does_not() {
    let loaded = file(0, 9002, ROLLOUT);
    let after = |at: u64, kind: EventKind, parts: u32| {
        let mut past = past(&started(&loaded));
        past.falls.insert("web".to_owned(), Fall { at: Moment(at), kind, parts });
        let fleet = Fleet::restore(&loaded, past, Moment(9_000));
        (fleet.rollouts[0].phase(), canary(&fleet.model_at_start(&loaded)))
    };
    assert_eq!(after(1_000, EventKind::RolledBack, 0), (Phase::RolledBack, 0));
    assert_eq!(after(1_001, EventKind::Aborted, 0), (Phase::Aborted, 0));
    assert_eq!(after(1_001, EventKind::Suspended, 30), (Phase::Suspended, 30));
    for (at, kind, parts) in [
        (999, EventKind::RolledBack, 0),
        (1_001, EventKind::Suspended, 2_000),
        (1_001, EventKind::Suspended, 9_000),
        (1_001, EventKind::Started, 500),
    ] {
        assert_eq!(after(at, kind, parts), (Phase::Running, 2_000), "{at} {kind:?} {parts}");
    }
}

#[test]
fn a_suspension_that_comes_back_lasts_until_clean_answers_end_it() {
    let loaded = file(0, 9002, ROLLOUT);
    let mut past = past(&started(&loaded));
    let fall = Fall { at: Moment(2_000), kind: EventKind::Suspended, parts: 30 };
    past.falls.insert("web".to_owned(), fall);
    let mut fleet = Fleet::restore(&loaded, past, Moment(9_000));
    let rollout = &mut fleet.rollouts[0].rollout;
    for tick in 1..50 {
        rollout.step(Moment(9_000 + 100 * tick), &Evidence::default(), &[]);
        assert_eq!((rollout.phase(), rollout.weights().of("canary")), (Phase::Suspended, 30));
    }
}

#[test]
fn idle_rollout_leaves_the_file_its_word() {
    let loaded = file(7, 9002, ROLLOUT);
    let fleet = Fleet::restore(&loaded, Past::default(), Moment(1_000));
    assert_eq!(canary(&fleet.model_at_start(&loaded)), 700);
}

#[test]
fn another_release_under_the_same_name_does_not_inherit_weight() {
    let before = file(0, 9002, ROLLOUT);
    let fleet = started(&before);
    let after = file(0, 9003, ROLLOUT);
    let restored = Fleet::restore(&after, past(&fleet), Moment(9_000));
    assert_eq!(restored.rollouts[0].phase(), Phase::Idle);
    assert_eq!(canary(&restored.model_at_start(&after)), 0);
    assert_eq!(canary(&fleet.model_after(&after, &Reading::default())), 0, "nor over a reload");
}

#[test]
fn weights_set_by_hand_hold_until_the_file_changes_its_word() {
    let loaded = file(10, 9002, "");
    let asked = loaded.model.splits[0].weights.clone();
    let manual = Manual { asked, weights: Weights::pair("primary", "canary", 4_200) };
    let said = || Past { weights: BTreeMap::from([("web".to_owned(), manual.clone())]), ..Past::default() };
    let fleet = Fleet::restore(&loaded, said(), Moment(1));
    assert_eq!(canary(&fleet.model_at_start(&loaded)), 4_200);
    let changed = file(20, 9002, "");
    assert_eq!(canary(&Fleet::restore(&changed, said(), Moment(1)).model_at_start(&changed)), 2_000);
    assert_eq!(canary(&fleet.model_after(&changed, &Reading::default())), 2_000);
}

#[test]
fn weights_set_by_hand_are_not_for_another_release() {
    let loaded = file(0, 9002, ROLLOUT);
    let asked = loaded.model.splits[0].weights.clone();
    let all = Manual { asked, weights: Weights::pair("primary", "canary", 10_000) };
    let mut fleet = Fleet::restore(&loaded, Past::default(), Moment(1));
    fleet.manual.insert("web".to_owned(), all);
    let next = file(0, 9003, ROLLOUT);
    assert_eq!(canary(&fleet.model_after(&next, &Reading::default())), 0, "over a reload");
    let restored = Fleet::restore(&next, past(&fleet), Moment(2));
    assert_eq!(canary(&restored.model_at_start(&next)), 0, "over a restart");
    fleet.adopt(&next, &Reading::default(), Moment(2));
    assert!(fleet.manual.is_empty());
}

#[test]
fn rollout_dropped_under_way_gives_its_weight_back_to_the_primary() {
    let loaded = file(30, 9002, ROLLOUT);
    let mut fleet = started(&loaded);
    let without = file(30, 9002, "");
    assert_eq!(canary(&fleet.model_after(&without, &Reading::default())), 0);
    let adopted = fleet.adopt(&without, &Reading::default(), Moment(2_000));
    assert_eq!(adopted.dropped, ["web"]);
    assert!(fleet.rollouts.is_empty());
}

#[test]
fn new_terms_for_the_same_release_keep_its_place() {
    let loaded = file(0, 9002, ROLLOUT);
    let mut fleet = started(&loaded);
    let longer = file(0, 9002, &ROLLOUT.replace("{weight: 50, for: 60s}", "{weight: 50, for: 90s}"));
    assert_eq!(canary(&fleet.model_after(&longer, &Reading::default())), 2_000);
    let adopted = fleet.adopt(&longer, &Reading::default(), Moment(2_000));
    assert_eq!((adopted.dropped.len(), adopted.changed.as_slice()), (0, &["web".to_owned()][..]));
    assert_eq!(fleet.rollouts[0].phase(), Phase::Running);
    assert_eq!(fleet.rollouts[0].spec(), &longer.rollouts[0]);
}
