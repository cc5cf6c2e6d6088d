//! The loop: one task that owns all rollouts, so that nothing needs a lock.
//!
//! Every 100 ms, at once when a canary fails or grows slow, and at once for every
//! command: read the clock once, read the counters once, step each rollout, and
//! do what it decided in the order that `act` explains. It waits for nothing but
//! its own journal.

pub mod ask;
mod keep;
mod moves;
mod manual;
mod reload;
mod succession;
pub mod view;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serin_proxy::reading::SplitReading;
use serin_proxy::{Handle, Model, Weights};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::act::{self, Plan};
use crate::answers::Board;
use crate::certificates;
use crate::certificates::Certificate;
use crate::clock::{Clock, Moment};
use crate::config::{Drain, Loaded, Metrics, Referenced};
use crate::events::{Events, word};
use crate::falls::Fall;
use crate::figures::Ring;
use crate::fleet::{Fleet, Governed};
use crate::journal::looks::room;
use crate::journal::{Entry, Journal};
use crate::judge::evidence::Evidence;
use crate::judge::samples::Outside;
use crate::outside::hook::Word;
use crate::rollout::{Action, Checkpoint, Command, Event, EventKind};
use crate::source::Change;
use crate::source::file::Watch;
use ask::{Ask, Refusal};
use moves::Moves;
use view::{Reload, Reloads};

const INTERVAL: Duration = Duration::from_millis(100);
/// Alarms are answered at most this often.
const REST: Duration = Duration::from_millis(1);
/// An active rollout's checkpoint is written at least this often.
const KEEP: Duration = Duration::from_secs(10);
/// A journal that failed is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

pub struct Tick {
    handle: Handle,
    clock: Clock,
    fleet: Fleet,
    journal: Journal,
    /// How much of what each rollout was given may be kept for the journal.
    room: usize,
    /// Set while the journal cannot be written: weights may fall but not rise.
    down: Option<Down>,
    events: Events,
    ring: Ring,
    /// The model in force, with the weights it was applied with.
    model: Model,
    path: PathBuf,
    /// What was last read of the file, whether it was taken or not.
    text: String,
    /// The files it refers to, as they were read with it.
    referenced: Referenced,
    watch: Watch,
    fixed: Fixed,
    /// What the file says of an end, for those who bring it about.
    drain: watch::Sender<Drain>,
    metrics: Metrics,
    /// Of the model in force; reading them again takes its time.
    certificates: Vec<Certificate>,
    /// The configuration in force, for those who talk to others about it.
    loaded: watch::Sender<Arc<Loaded>>,
    /// Where the comparison of answers stands.
    board: Board,
    reloads: Reloads,
    last_reload: Reload,
    moves: Moves,
    /// In the order of the rollouts.
    meters: Vec<Option<view::Known>>,
}

/// Settings that a reload cannot change.
pub struct Fixed {
    pub admin: std::net::SocketAddr,
    pub workers: Option<usize>,
    pub state: Option<PathBuf>,
}

/// What the composition root has put together.
pub struct Parts {
    pub handle: Handle,
    pub clock: Clock,
    pub fleet: Fleet,
    pub journal: Journal,
    pub model: Model,
    pub path: PathBuf,
    pub text: String,
    pub referenced: Referenced,
    pub watch: Watch,
    pub fixed: Fixed,
    pub drain: watch::Sender<Drain>,
    pub metrics: Metrics,
    pub loaded: watch::Sender<Arc<Loaded>>,
    pub board: Board,
    pub reloads: Reloads,
    pub warnings: Vec<String>,
    /// What was told before, as the journal has it.
    pub told: VecDeque<Event>,
}

struct Down {
    cause: String,
    retried: Moment,
}

/// What one rollout decided in one evaluation.
struct Decision {
    index: usize,
    /// The look before.
    after: Moment,
    evidence: Evidence,
    commands: Vec<Command>,
    actions: Vec<Action>,
    checkpoint: Checkpoint,
    plan: Plan,
    /// What generations that it begins are called.
    generation: u64,
    in_force_us: Option<u64>,
}

impl Decision {
    /// Weights set by hand end where a rollout takes over.
    fn ends_manual(&self, governed: &Governed) -> bool {
        !self.plan.shifts.is_empty() || governed.is_active()
    }
}

impl Tick {
    pub fn new(parts: Parts) -> Tick {
        let now = parts.clock.now();
        let last_reload =
            Reload { at: now.0, accepted: true, problems: Vec::new(), warnings: parts.warnings };
        let mut tick = Tick {
            handle: parts.handle,
            clock: parts.clock,
            fleet: parts.fleet,
            journal: parts.journal,
            room: room(1),
            down: None,
            events: Events::new(now, parts.told),
            ring: Ring::default(),
            certificates: certificates::in_use(&parts.model),
            model: parts.model,
            path: parts.path,
            text: parts.text,
            referenced: parts.referenced,
            watch: parts.watch,
            fixed: parts.fixed,
            drain: parts.drain,
            metrics: parts.metrics,
            loaded: parts.loaded,
            board: parts.board,
            reloads: parts.reloads,
            last_reload,
            moves: Moves::default(),
            meters: Vec::new(),
        };
        tick.mark_all();
        if let Err(cause) = tick.keep_everything() {
            tick.journal_failed(&cause);
        }
        tick.succeed_the_last(Vec::new());
        tick
    }

    /// Runs until told to stop, then leaves a last checkpoint.
    pub async fn run(
        &mut self,
        asks: &mut mpsc::Receiver<Ask>,
        changes: &mut mpsc::Receiver<Change>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let handle = self.handle.clone();
        let mut pace = interval(INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rested = Instant::now();
        loop {
            let alarm = async {
                sleep_until(rested).await;
                handle.alarm().await;
            };
            tokio::select! {
                biased;
                _ = &mut stop => break,
                () = alarm => {
                    self.evaluate(None);
                    rested = Instant::now() + REST;
                }
                _ = pace.tick() => self.pace(),
                Some(ask) = asks.recv() => self.answer(ask),
                Some(change) = changes.recv() => self.notice(change),
            }
        }
        if let Err(cause) = self.keep_everything() {
            tracing::error!(%cause, "the last checkpoints are not written");
        }
    }

    fn pace(&mut self) {
        self.evaluate(None);
        let now = self.clock.now();
        if self.ring.is_due(now) {
            self.ring.keep(now, &self.handle.used_versions());
        }
        self.keep_active(now);
        if self.down.as_ref().is_some_and(|down| now.since(down.retried) >= RETRY) {
            self.retry_journal();
        }
    }

    fn answer(&mut self, ask: Ask) {
        // Who asked may have gone away meanwhile; that is no failure of ours.
        match ask {
            Ask::Command { rollout, command, reply } => drop(reply.send(self.command(&rollout, command))),
            Ask::Weights { split, shares, reply } => drop(reply.send(self.set_weights(&split, &shares))),
            Ask::Reload { reply } => drop(reply.send(self.reload_file())),
            Ask::Rollouts { reply } => drop(reply.send(self.details())),
            Ask::Rollout { name, reply } => drop(reply.send(self.detail_of(&name))),
            Ask::Splits { reply } => drop(reply.send(self.splits())),
            Ask::Metrics { reply } => drop(reply.send(self.metrics())),
            Ask::Health { reply } => drop(reply.send(self.handle.readings().health)),
            Ask::Dump { reply } => drop(reply.send(self.dump())),
            Ask::Word { rollout, word, reply } => drop(reply.send(self.hear(&rollout, word))),
            Ask::Figure { rollout, figure, took, reply } => {
                drop(reply.send(self.hear_figure(&rollout, figure, took)))
            }
            Ask::History { filter, reply } => drop(reply.send(self.events.list(&filter))),
            Ask::Subscribe { last, reply } => drop(reply.send(self.events.subscribe(last))),
        }
    }

    /// A word is part of the evidence, so it is looked at at once.
    fn hear(&mut self, rollout: &str, word: Word) -> Result<(), Refusal> {
        let mut rollouts = self.fleet.rollouts.iter_mut();
        let governed = rollouts.find(|governed| governed.spec().name == rollout);
        governed.ok_or_else(|| view::unknown("rollout", rollout))?.words.push(word);
        self.evaluate(None);
        Ok(())
    }

    /// Looked at with what comes in next: it can wait, and nobody waits for it.
    fn hear_figure(&mut self, rollout: &str, figure: Outside, took: Duration) -> Result<(), Refusal> {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let asked = Moment(self.clock.now().0.saturating_sub(took));
        let governed = self.fleet.rollouts.iter_mut().find(|governed| governed.spec().name == rollout);
        let governed = governed.ok_or_else(|| view::unknown("rollout", rollout))?;
        governed.hear_figure(Outside { at: asked, ..figure });
        Ok(())
    }

    fn command(&mut self, rollout: &str, command: Command) -> Result<view::Detail, Refusal> {
        let is_known = self.fleet.rollouts.iter().any(|governed| governed.spec().name == rollout);
        if !is_known {
            return Err(view::unknown("rollout", rollout));
        }
        let may_raise = match command {
            Command::Start | Command::Promote | Command::Resume | Command::Retry | Command::Skip => true,
            Command::Abort | Command::Pause | Command::Freeze | Command::Suspend | Command::Rollback => false,
            Command::Admit | Command::Arrived => true,
        };
        if let Some(down) = self.down.as_ref().filter(|_| may_raise) {
            return Err(Refusal::Unavailable(format!("the journal cannot be written: {}", down.cause)));
        }
        let told = self.evaluate(Some((rollout, command)));
        if told.iter().any(|event| event.kind == EventKind::Queued) {
            // Nobody may be before it.
            self.evaluate(None);
        }
        match told.into_iter().find(|event| event.kind == EventKind::Refused) {
            Some(refused) => Err(Refusal::Conflict(refused.text)),
            None => self.detail_of(rollout),
        }
    }

    /// One evaluation of every rollout. Answers with what the rollout that was
    /// asked for had to tell.
    fn evaluate(&mut self, asked: Option<(&str, Command)>) -> Vec<Event> {
        let started = Instant::now();
        let now = self.clock.now();
        self.moves.follow(self.handle.applied(), &self.fleet);
        let live = self.handle.evidence(|place, split, state| self.moves.has_moved(place, split, state));
        self.evaluate_on(&live, now, started, asked)
    }

    fn evaluate_on(
        &mut self,
        live: &[SplitReading],
        now: Moment,
        started: Instant,
        asked: Option<(&str, Command)>,
    ) -> Vec<Event> {
        let live: HashMap<&str, &SplitReading> =
            live.iter().map(|reading| (reading.split.as_str(), reading)).collect();
        let mut decisions = Vec::new();
        for index in 0..self.fleet.rollouts.len() {
            let by_itself = self.fleet.due_command(index, now);
            let governed = &mut self.fleet.rollouts[index];
            let name = governed.spec().name.as_str();
            let asked = asked.iter().filter(|(asked, _)| *asked == name).map(|(_, command)| *command);
            let commands: Vec<Command> = by_itself.into_iter().chain(asked).collect();
            let reach =
                Reach { handle: &self.handle, journal: &self.journal, board: &self.board, room: self.room };
            if let Some(decision) = decide(&reach, index, governed, &live, (now, started), commands) {
                decisions.push(decision);
            }
        }
        self.conclude(now, started, &mut decisions);
        let of_asked = |decision: &&Decision| {
            asked.is_some_and(|(name, _)| self.fleet.rollouts[decision.index].spec().name == name)
        };
        decisions.iter().filter(of_asked).flat_map(|decision| decision.plan.tells.clone()).collect()
    }

    /// Falls are in force already. Now the journal, then rises, then the world.
    fn conclude(&mut self, now: Moment, started: Instant, decisions: &mut [Decision]) {
        if decisions.is_empty() {
            return;
        }
        let is_written = self.record(now, decisions);
        for decision in decisions.iter_mut() {
            let governed = &mut self.fleet.rollouts[decision.index];
            for shift in decision.plan.shifts.iter().filter(|shift| shift.rises) {
                if is_written {
                    decision.in_force_us = put_in_force(
                        &self.handle,
                        &shift.split,
                        &shift.weights,
                        decision.generation,
                        started,
                    );
                } else {
                    governed.withheld = true;
                }
            }
            if decision.ends_manual(governed) {
                for site in governed.spec().sites() {
                    self.fleet.manual.remove(&site.split);
                }
            }
            if let Some(marks) = decision.plan.marks {
                reload::mark(&self.handle, governed, marks);
            }
        }
        for decision in decisions.iter() {
            for event in &decision.plan.tells {
                self.tell(event.clone(), decision.in_force_us);
            }
            if decision.plan.tells.iter().any(|event| event.kind == EventKind::Started) {
                let sites = self.fleet.rollouts[decision.index].spec().sites();
                sites.for_each(|site| self.board.restart(&site.split));
            }
        }
        self.hold_withheld();
    }

    /// Writes the decisions; a shift is made to outlive the machine.
    fn record(&mut self, at: Moment, decisions: &[Decision]) -> bool {
        let mut entries = Vec::new();
        for decision in decisions {
            let governed = &mut self.fleet.rollouts[decision.index];
            (governed.kept, governed.windows) = (at, governed.rollout.windows());
        }
        for decision in decisions {
            let governed = &self.fleet.rollouts[decision.index];
            let spec = governed.spec();
            let manual = self.fleet.manual.iter().filter(|(split, _)| spec.moves(split));
            for (split, manual) in manual.filter(|_| decision.ends_manual(governed)) {
                entries.push(Entry::Weights { at, split, asked: &manual.asked, weights: None });
            }
            entries.extend(governed.looks.entry(at, &spec.name));
            entries.push(Entry::Decision {
                at,
                rollout: &spec.name,
                after: decision.after,
                evidence: &decision.evidence,
                commands: &decision.commands,
                actions: &decision.actions,
                checkpoint: &decision.checkpoint,
            });
        }
        let must_last = decisions.iter().any(|decision| !decision.plan.shifts.is_empty());
        let written = self.journal.append(&entries).and_then(|()| match must_last {
            true => self.journal.sync(),
            false => Ok(()),
        });
        match written {
            Ok(()) => {
                for decision in decisions {
                    let governed = &mut self.fleet.rollouts[decision.index];
                    governed.looks.kept_with_state();
                    self.journal.forget_fall(&governed.spec().name);
                }
                self.down.is_none()
            }
            Err(cause) => {
                decisions.iter().for_each(|decision| self.fleet.rollouts[decision.index].looks.missed());
                self.journal_failed(&cause);
                false
            }
        }
    }

    fn tell(&mut self, event: Event, in_force_us: Option<u64>) {
        let Event { rollout, text, canary_parts, .. } = &event;
        let kind = word(event.kind);
        let percent = serin_proxy::weights::percent(*canary_parts);
        tracing::info!(rollout, kind, canary_percent = percent, in_force_us, "{text}");
        self.events.tell(event, in_force_us);
    }
}

/// Where a fall has its effect, and what remembers it until it is written.
struct Reach<'a> {
    handle: &'a Handle,
    journal: &'a Journal,
    board: &'a Board,
    room: usize,
}

/// Steps one rollout; a fall is in force when this returns. `None` when there is
/// nothing to do and nothing to record.
fn decide(
    reach: &Reach<'_>,
    index: usize,
    governed: &mut Governed,
    live: &HashMap<&str, &SplitReading>,
    (now, started): (Moment, Instant),
    commands: Vec<Command>,
) -> Option<Decision> {
    let has_moved = governed.splits().any(|split| live.contains_key(split));
    if !has_moved && commands.is_empty() && !governed.is_due(now) {
        return None;
    }
    let mut evidence = governed.take(|split| live.get(split).copied());
    evidence.words = std::mem::take(&mut governed.words);
    evidence.outside = std::mem::take(&mut governed.outside);
    evidence.answers = governed.take_answers(|split| reach.board.standing(split));
    let after = governed.rollout.at();
    let is_kept = governed.looks.before(&governed.rollout, now, &commands);
    let mut actions = governed.rollout.step(now, &evidence, &commands);
    let is_shifting = actions.iter().any(|action| matches!(action, Action::Shift { .. }));
    // A rollout under way has the last word even where someone else moved the
    // weights since: by hand before it began, or a proxy that forgot them.
    let mut wanted = governed.rollout.all_weights();
    let moved =
        wanted.any(|(split, wanted)| governed.in_force(&split).is_some_and(|in_force| *in_force != wanted));
    if governed.is_active() && !governed.withheld && !is_shifting && moved {
        actions.extend(governed.rollout.shifts());
    }
    if actions.is_empty() && commands.is_empty() {
        if is_kept {
            governed.looks.add(&governed.rollout, now, &evidence, reach.room);
        }
        return None;
    }
    let spec = governed.spec();
    let plan = act::plan(spec.sites(), |site| governed.in_force(&site.split).cloned(), &actions);
    // One name for all its splits, so that their evidence is that of one coin.
    let generation = reach.handle.next_generation();
    let mut in_force_us = None;
    for shift in plan.shifts.iter().filter(|shift| !shift.rises) {
        in_force_us = put_in_force(reach.handle, &shift.split, &shift.weights, generation, started);
    }
    if plan.shifts.iter().any(|shift| !shift.rises) {
        let parts = governed.rollout.weights().of(&spec.canary);
        for event in &plan.tells {
            reach.journal.note_fall(&spec.name, Fall { at: now, kind: event.kind, parts });
        }
    }
    if plan.renew && plan.shifts.is_empty() {
        for site in spec.sites() {
            governed
                .in_force(&site.split)
                .map(|in_force| put_in_force(reach.handle, &site.split, in_force, generation, started));
        }
    }
    let checkpoint = governed.rollout.checkpoint();
    Some(Decision { index, after, evidence, commands, actions, checkpoint, plan, generation, in_force_us })
}

/// Puts weights in force and answers how long that took since `started`.
fn put_in_force(
    handle: &Handle,
    split: &str,
    weights: &Weights,
    generation: u64,
    started: Instant,
) -> Option<u64> {
    match handle.shift_as(split, weights, generation) {
        Ok(_) => u64::try_from(started.elapsed().as_micros()).ok(),
        Err(cause) => {
            tracing::error!(split, %cause, "weights are not in force");
            None
        }
    }
}

impl Fixed {
    /// What a new file asks for that only a restart can give.
    fn changed(&self, loaded: &Loaded) -> Vec<String> {
        let changed = [
            ("admin", self.admin != loaded.admin),
            ("workers", self.workers != loaded.workers),
            ("state", self.state != loaded.state),
        ];
        let warning = |(field, _): &(&str, bool)| format!("{field}: a change takes effect at the next start");
        changed.iter().filter(|(_, changed)| *changed).map(warning).collect()
    }
}
