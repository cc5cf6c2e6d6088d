//! Rollouts on synthetic traffic, recorded as the shell records them, with all that
//! can come between: what is decided again is the same to the bit, and where the
//! record is broken that is told.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tempfile::TempDir;

use super::Replay;
use super::report::{Again, Report};
use crate::clock::Moment;
use crate::journal::looks::{self, Looks};
use crate::journal::saved;
use crate::journal::{Entry, Journal};
use crate::judge::analysis::{Analysis, SuccessObjective};
use crate::judge::evidence::Evidence;
use crate::outside::hook::{Answer, HookType, Word};
use crate::rehearse::{Rehearsal, Version, World};
use crate::rollout::spec::Step;
use crate::rollout::{Command, EventKind, Rollout, Spec};

fn spec() -> Spec {
    let weight = |percent: u32| Step::Weight { parts: percent * 100, hold: Duration::from_secs(12) };
    Spec {
        name: "web".to_owned(),
        split: "web".to_owned(),
        primary: "primary".to_owned(),
        canary: "canary".to_owned(),
        steps: vec![weight(5), Step::Pause { hold: Some(Duration::from_secs(3)) }, weight(50)],
        bake: Duration::from_secs(12),
        analysis: Analysis {
            success: Some(SuccessObjective { min: 0.99, share: SuccessObjective::SHARE }),
            ..Analysis::default()
        },
        ..Spec::default()
    }
}

/// What the shell does with a rollout and its journal, and no more.
struct Shell<W> {
    rehearsal: Rehearsal<W>,
    directory: TempDir,
    journal: Journal,
    looks: Looks,
    room: usize,
    kept: Moment,
    windows: u64,
    /// What stands in the journal, for a restart.
    written: crate::rollout::Checkpoint,
    decided: usize,
    sticky: bool,
}

impl<W: Fn(f64) -> World> Shell<W> {
    fn new(spec: Spec, seed: u64, world: W) -> Shell<W> {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(directory.path()).unwrap();
        let rehearsal = Rehearsal::new(Rollout::new(spec), seed, world);
        let mut shell = Shell {
            directory,
            journal,
            looks: Looks::default(),
            room: looks::room(1),
            kept: rehearsal.now(),
            windows: 0,
            written: rehearsal.rollout.checkpoint(),
            rehearsal,
            decided: 0,
            sticky: false,
        };
        shell.say_everything();
        shell
    }

    fn look(&mut self, commands: &[Command], words: &[Word], is_full: bool) {
        let mut evidence = self.rehearsal.wait();
        evidence.words.extend(words.iter().cloned());
        evidence.sticky = self.sticky;
        let (now, after) = (self.rehearsal.now(), self.rehearsal.rollout.at());
        let is_kept = self.looks.before(&self.rehearsal.rollout, now, commands);
        let actions = self.rehearsal.rollout.step(now, &evidence, commands);
        actions.iter().for_each(|action| self.rehearsal.act(action));
        if actions.is_empty() && commands.is_empty() {
            if is_kept {
                self.looks.add(&self.rehearsal.rollout, now, &evidence, self.room);
            }
            return self.keep(now);
        }
        let checkpoint = self.rehearsal.rollout.checkpoint();
        if is_full {
            return self.looks.missed();
        }
        let decision = Entry::Decision {
            at: now,
            rollout: "web",
            after,
            evidence: &evidence,
            commands,
            actions: &actions,
            checkpoint: &checkpoint,
        };
        let entries: Vec<_> = self.looks.entry(now, "web").into_iter().chain([decision]).collect();
        self.journal.append(&entries).unwrap();
        self.looks.kept_with_state();
        (self.written, self.kept, self.decided) = (checkpoint, now, self.decided + 1);
    }

    /// Every ten seconds, and at the end of a window.
    fn keep(&mut self, now: Moment) {
        let windows = self.rehearsal.rollout.windows();
        let is_due = now.since(self.kept) >= Duration::from_secs(10) || windows != self.windows;
        if !is_due || !self.rehearsal.rollout.phase().is_active() {
            return;
        }
        (self.kept, self.windows) = (now, windows);
        self.written = self.rehearsal.rollout.checkpoint();
        let state = Entry::Checkpoint { at: now, rollout: "web", checkpoint: &self.written };
        let entries: Vec<_> = self.looks.entry(now, "web").into_iter().chain([state]).collect();
        self.journal.append(&entries).unwrap();
        self.looks.kept_with_state();
        if self.journal.is_oversized() {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        let now = self.rehearsal.now();
        let looks: Vec<_> = self.looks.entry(now, "web").into_iter().collect();
        self.journal.append(&looks).unwrap();
        self.looks.kept();
        let (spec, checkpoint) = (self.rehearsal.rollout.spec().clone(), self.rehearsal.rollout.checkpoint());
        self.journal.rewrite(&everything(now, &spec, &checkpoint)).unwrap();
        self.looks.kept_with_state();
        self.written = checkpoint;
    }

    /// At a start, and where the terms have changed.
    fn say_everything(&mut self) {
        let now = self.rehearsal.now();
        let (spec, checkpoint) = (self.rehearsal.rollout.spec().clone(), self.rehearsal.rollout.checkpoint());
        let mut entries: Vec<_> = self.looks.entry(now, "web").into_iter().collect();
        entries.extend(everything(now, &spec, &checkpoint));
        self.journal.append(&entries).unwrap();
        self.looks.kept_with_state();
        self.written = checkpoint;
    }

    /// Killed; what was not written is forgotten.
    fn crash(&mut self) {
        let spec = self.rehearsal.rollout.spec().clone();
        self.looks = Looks::default();
        self.rehearsal.rollout = Rollout::restore(spec, self.written.clone(), self.rehearsal.now());
        self.rehearsal.lose_evidence();
        for action in self.rehearsal.rollout.shifts().collect::<Vec<_>>() {
            self.rehearsal.act(&action);
        }
        self.say_everything();
    }

    fn reload(&mut self, spec: Spec) {
        let now = self.rehearsal.now();
        let looks: Vec<_> = self.looks.entry(now, "web").into_iter().collect();
        self.journal.append(&looks).unwrap();
        self.looks.kept();
        self.rehearsal.rollout = Rollout::restore(spec, self.rehearsal.rollout.checkpoint(), now);
        self.say_everything();
    }

    fn live(&mut self, seconds: f64, commands: &[Command]) {
        let until = self.rehearsal.seconds() + seconds;
        self.look(commands, &[], false);
        while self.rehearsal.seconds() < until {
            self.look(&[], &[], false);
        }
    }

    fn replayed(&self, policies: Vec<Spec>) -> Report {
        let mut replay = Replay::new(policies);
        for file in saved::files(self.directory.path()).unwrap() {
            assert_eq!(saved::lines(&file, |line| replay.take(line)).unwrap(), 0);
        }
        replay.end().pop().expect("there is one rollout")
    }
}

fn everything<'a>(at: Moment, spec: &'a Spec, checkpoint: &'a crate::rollout::Checkpoint) -> [Entry<'a>; 2] {
    [
        Entry::Governs { at, rollout: "web", spec, canary: &[] },
        Entry::Checkpoint { at, rollout: "web", checkpoint },
    ]
}

fn failing(primary: f64, canary: f64) -> impl Fn(f64) -> World {
    move |_| World {
        requests_per_second: 200.0,
        primary: Version::failing(primary),
        canary: Version::failing(canary),
    }
}

const COMMANDS: [Command; 8] = [
    Command::Start,
    Command::Promote,
    Command::Abort,
    Command::Pause,
    Command::Resume,
    Command::Freeze,
    Command::Suspend,
    Command::Retry,
];

/// One seed's life: faults that come and go, commands, answers of webhooks, lost
/// evidence, stalls, crashes, reloads, full disks and rotations.
fn chaos(seed: u64, fills_up: bool) -> Shell<impl Fn(f64) -> World> {
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5e12);
    let bad_from = 5.0 + 40.0 * chance.random::<f64>();
    let failure = chance.random::<f64>().powi(2);
    let world = move |at: f64| {
        let bad = (bad_from..bad_from + 15.0).contains(&at);
        let rate = if bad { failure } else { 0.003 };
        failing(0.003, rate)(at)
    };
    let mut spec = spec();
    if seed % 4 == 1 {
        let trial = Step::Trial { matched: 5_000, copied: 3_000, hold: Duration::from_secs(8) };
        spec.steps.insert(0, trial);
    }
    if seed % 4 == 2 {
        spec.baseline = Some("baseline".to_owned());
        spec.analysis.window = Duration::ZERO;
    }
    let mut shell = Shell::new(spec.clone(), seed, world);
    shell.sticky = seed % 5 == 3;
    shell.room = if seed.is_multiple_of(3) { 1_500 } else { looks::room(1) };
    for at in 0..900 {
        let drawn = chance.random_range(0..COMMANDS.len());
        let commands: &[Command] = match chance.random::<f64>() {
            _ if at == 50 => &[Command::Start],
            x if x < 0.01 => &COMMANDS[drawn..=drawn],
            _ => &[],
        };
        let closed = Word { on: HookType::Rollback, step: 0, answer: Answer::Closed, why: "fine".to_owned() };
        match chance.random_range(0..200) {
            0 => shell.rehearsal.lose_evidence(),
            1 => shell.rehearsal.sleep(chance.random_range(0..3_000)),
            2 => shell.crash(),
            3 => shell.reload(Spec { bake: Duration::from_secs(at), ..spec.clone() }),
            4 if chance.random_range(0..4) == 0 => shell.rotate(),
            _ => {}
        }
        let words = if chance.random::<f64>() < 0.02 { vec![closed] } else { vec![] };
        shell.look(commands, &words, fills_up && chance.random::<f64>() < 0.2);
    }
    shell.say_everything();
    shell
}

#[test]
fn what_is_decided_again_is_the_same_to_the_bit() {
    let (mut decisions, mut states, mut told, mut gaps) = (0, 0, 0, 0);
    for seed in 0..60 {
        let fills_up = seed % 6 == 5;
        let report = chaos(seed, fills_up).replayed(Vec::new());
        for decided in &report.decisions {
            assert_eq!(decided.again, Again::Same, "seed {seed} at {:?}: {:?}", decided.at, decided.actions);
        }
        assert_eq!((report.states_differ, report.differs_from), (0, None), "seed {seed}");
        decisions += report.decisions.len();
        states += report.states;
        told += report.decisions.iter().filter(|decided| !decided.actions.is_empty()).count();
        gaps += report.breaks.len();
    }
    assert!(decisions > 600 && told > 300, "{decisions} decisions, {told} with actions");
    assert!(states as usize > decisions, "{states}");
    assert!(gaps > 20, "{gaps}: the seeds should have broken the record");
}

/// Without crashes and full disks the record is whole: every decision is in it and
/// nothing is missing in between.
#[test]
fn an_undisturbed_record_has_no_gap_and_every_decision() {
    for (seed, canary, last) in [(1, 0.003, EventKind::Baked), (2, 0.3, EventKind::RolledBack)] {
        let mut shell = Shell::new(spec(), seed, failing(0.003, canary));
        shell.live(20.0, &[]);
        shell.live(150.0, &[Command::Start]);
        let report = shell.replayed(Vec::new());
        assert_eq!(report.decisions.len(), shell.decided, "{last:?}");
        assert_eq!((report.tally().same, report.breaks.len()), (shell.decided, 0), "{report:?}");
        let told = report.decisions.iter().flat_map(|decided| super::course::told(&decided.actions));
        assert!(told.into_iter().any(|event| event.kind == last), "{last:?}: {report:?}");
        assert!(report.looks > 300, "{} looks", report.looks);
    }
}

#[test]
fn a_changed_number_in_the_record_is_noticed() {
    let mut shell = Shell::new(spec(), 3, failing(0.003, 0.3));
    shell.live(60.0, &[Command::Start]);
    let path = shell.directory.path().join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // A decision that was made on one failure more.
    let at = text.rfind("\"failed\":").expect("evidence of a decision");
    let changed = format!("{}\"failed\":9{}", &text[..at], &text[at + "\"failed\":".len()..]);
    std::fs::write(&path, changed).unwrap();
    let report = shell.replayed(Vec::new());
    assert!(report.states_differ > 0 || report.tally().different > 0, "{report:?}");
}

/// The bound is hit: what is lost is said, and what was decided after it is still
/// decided again.
#[test]
fn looks_that_do_not_fit_are_a_gap_and_decisions_after_it_are_whole() {
    let mut shell = Shell::new(spec(), 4, failing(0.003, 0.003));
    shell.room = 300;
    shell.live(20.0, &[Command::Start]);
    let report = shell.replayed(Vec::new());
    assert_eq!(report.tally().same, report.decisions.len());
    let lost: u64 = report.breaks.iter().filter_map(|gap| gap.lost).sum();
    assert!(lost > 20, "{:?}", report.breaks);
    assert!(report.breaks.iter().all(|gap| gap.to > Some(gap.from)), "{:?}", report.breaks);
}

#[test]
fn a_rollout_that_waits_for_nothing_costs_the_record_nothing() {
    let mut shell = Shell::new(spec(), 5, failing(0.003, 0.003));
    let before = std::fs::metadata(shell.directory.path().join("journal.jsonl")).unwrap().len();
    shell.live(60.0, &[]);
    shell.keep(shell.rehearsal.now());
    let after = std::fs::metadata(shell.directory.path().join("journal.jsonl")).unwrap().len();
    assert_eq!(before, after);
    assert!(shell.looks.entry(Moment(0), "web").is_none());
}

/// Without the guard against bursts the same evidence ends it at the first cut.
#[test]
fn another_policy_is_told_to_have_rolled_back_sooner() {
    let mut shell = Shell::new(spec(), 6, failing(0.003, 0.2));
    shell.live(10.0, &[]);
    shell.live(120.0, &[Command::Start]);
    let recorded = shell.replayed(Vec::new());
    assert!(recorded.supposed.is_none());
    let mut policy = spec();
    policy.analysis.window = Duration::ZERO;
    let report = shell.replayed(vec![policy]);
    assert_eq!(report.tally().different, 0, "what was decided is not touched by it");
    let supposed = report.supposed.expect("there is a policy");
    let (was, would) = (&supposed.recorded[0], &supposed.runs[0]);
    let end = |run: &super::report::Run| run.end.expect("both end").at;
    assert!(end(would) < end(was) && would.requests < was.requests, "{supposed:?}");
    assert_eq!(Some(end(would)), was.cut, "what cut it to a trickle would have ended it");
    // The same policy again is the same course.
    let same = shell.replayed(vec![spec()]).supposed.expect("there is a policy");
    assert_eq!(same.runs, same.recorded);
}

/// A policy that would have gone on has no evidence beyond the recorded end.
#[test]
fn a_milder_policy_is_left_where_the_record_ends() {
    let mut sharp = spec();
    sharp.analysis.window = Duration::ZERO;
    let mut shell = Shell::new(sharp, 7, failing(0.003, 0.2));
    shell.live(60.0, &[Command::Start]);
    shell.say_everything();
    let supposed = shell.replayed(vec![spec()]).supposed.expect("there is a policy");
    assert_eq!(supposed.recorded[0].end.map(|end| end.kind), Some(EventKind::RolledBack));
    let would = &supposed.runs[0];
    assert!(would.end.is_none() && would.stands.is_some(), "{would:?}");
}

#[test]
fn a_torn_last_line_is_left_out_and_nothing_panics_on_half_a_record() {
    let mut shell = Shell::new(spec(), 8, failing(0.003, 0.3));
    shell.live(40.0, &[Command::Start]);
    let path = shell.directory.path().join("journal.jsonl");
    let content = std::fs::read(&path).unwrap();
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(8);
    for _ in 0..40 {
        let cut = chance.random_range(0..content.len());
        std::fs::write(&path, &content[..cut]).unwrap();
        let mut replay = Replay::new(vec![spec()]);
        let torn = saved::lines(&path, |line| replay.take(line)).expect("only its end is torn");
        let whole = content[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(torn as usize, cut - whole);
        for report in replay.end() {
            assert_eq!(report.tally().same, report.decisions.len(), "cut at {cut}");
        }
    }
    // Lines that are missing in the middle are no reason to guess.
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    for left_out in 1..lines.len() {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != left_out);
        std::fs::write(&path, kept.flat_map(|(_, line)| line.iter().copied()).collect::<Vec<u8>>()).unwrap();
        let report = shell.replayed(Vec::new());
        assert_eq!(report.tally().different, 0, "without line {left_out}: {report:?}");
    }
}

#[test]
fn a_journal_without_looks_is_read_and_nothing_of_it_can_be_decided_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let checkpoint = serde_json::to_value(Rollout::new(spec()).checkpoint()).unwrap();
    let decision = serde_json::json!({
        "kind": "decision", "at": 5, "rollout": "web", "evidence": Evidence::default(),
        "commands": ["start"], "actions": [], "checkpoint": checkpoint,
    });
    let governs = serde_json::json!({
        "kind": "governs", "at": 1, "rollout": "web", "spec": spec(), "canary": [],
    });
    std::fs::write(&path, format!("{{\"kind\":\"journal\",\"version\":1}}\n{governs}\n{decision}\n"))
        .unwrap();
    let mut replay = Replay::new(Vec::new());
    saved::lines(&path, |line| replay.take(line)).unwrap();
    let report = replay.end().pop().unwrap();
    assert!(matches!(&report.decisions[0].again, Again::Unknown { why } if why.contains("no looks")));
}
