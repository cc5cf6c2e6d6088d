//! The only door into the proxy.

#![expect(clippy::disallowed_types, reason = "its locks are the control side's; no request waits for them")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::alarm::Alarm;
use crate::lane::LaneCounts;
use crate::model::Model;
use crate::overload::Overload;
use crate::overload::Stage;
use crate::reading;
use crate::reading::MirrorReading;
use crate::reading::OverloadReading;
use crate::reading::Reading;
use crate::reading::Sent;
use crate::reading::SplitReading;
use crate::reading::State;
use crate::reading::VersionReading;
use crate::sockets::Refused;
use crate::sockets::Sockets;
use crate::split;
use crate::table::Bounds;
use crate::table::SplitPlan;
use crate::table::Table;
use crate::trio;
use crate::trio::Trio;
use crate::upkeep::Upkeep;
use crate::weights::Weights;
use crate::worker::Order;
use crate::worker::Worker;

pub use crate::overload::Ceilings;
pub use crate::sockets::{Bound, Inherited};
pub use crate::table::Problem;
pub use crate::worker::Pace;

#[derive(Debug, Default)]
pub struct Options {
    pub workers: usize,
    /// Sockets that listen already; those that no listener wants are closed.
    pub inherited: Vec<Inherited>,
    /// What a predecessor that we take over from has counted.
    pub legacy: Option<Legacy>,
    /// Where the model names none.
    pub ceilings: Ceilings,
}

/// What a process leaves to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Legacy {
    pub reading: Reading,
    /// Generations of weights that are made from here on have larger names.
    pub generation: u64,
}

/// Names of generations that are left to a predecessor that is ending.
const SPARE: u64 = 1_000;

/// Ages at which a request under way speaks before it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub slow_us: Option<u64>,
    pub reveal_us: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the model has {} problems", .0.len())]
    Model(Vec<Problem>),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start a worker")]
    Worker(#[source] std::io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShiftError {
    #[error("there is no split {0:?}")]
    NoSplit(String),
    #[error("split {split:?} has no version {version:?}")]
    NoVersion { split: String, version: String },
}

/// A running proxy. Cheap to clone; all methods are safe from any thread, and
/// none is for the request path.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    table: Arc<ArcSwap<Table>>,
    /// Held while the table is replaced, so that two models never mix.
    sockets: Mutex<Sockets>,
    workers: Vec<mpsc::UnboundedSender<Order>>,
    /// Whose turn it is to be asked by ourselves.
    turn: AtomicUsize,
    lanes: Vec<Arc<LaneCounts>>,
    alarm: Arc<Alarm>,
    alive: tokio::sync::Mutex<mpsc::Receiver<()>>,
    upkeep: Upkeep,
    overload: Arc<Overload>,
    /// The last word of a predecessor whose counts are ours now.
    before: Mutex<Option<Reading>>,
    /// Models that were put in force so far.
    applied: AtomicU64,
    /// Until somebody wants them.
    trios: Mutex<Option<mpsc::Receiver<Trio>>>,
}

impl Handle {
    /// Compiles the model, binds its listeners and starts the workers.
    pub fn start(model: &Model, options: Options) -> Result<(Handle, Bound), StartError> {
        let workers = options.workers.max(1);
        let before = options.legacy.map(|legacy| {
            split::begin_at(legacy.generation);
            legacy.reading
        });
        let table = Table::compile(model, None, workers).map_err(StartError::Model)?;
        let mut sockets = Sockets::new(workers, options.inherited);
        let plan = sockets.plan(&model.listeners);
        let plan = plan.map_err(|mut refused| {
            let refused = refused.swap_remove(0);
            StartError::Listen { address: refused.address, source: refused.cause }
        })?;
        let table = Arc::new(ArcSwap::from_pointee(table));
        let alarm = Arc::new(Alarm::default());
        let (living, alive) = mpsc::channel(1);
        let overload = Overload::new(options.ceilings, workers);
        let lanes: Vec<Arc<LaneCounts>> = (0..workers).map(|_| Arc::default()).collect();
        let (sampled, trios) = mpsc::channel(trio::WAITING);
        let mut posts = Vec::new();
        for (index, counts) in lanes.iter().enumerate() {
            let (post, orders) = mpsc::unbounded_channel();
            let (table, counts, overload) = (table.clone(), counts.clone(), overload.clone());
            let worker = Worker {
                index,
                table,
                counts,
                alarm: alarm.clone(),
                overload,
                trios: sampled.clone(),
                orders,
                alive: living.clone(),
            };
            worker.spawn().map_err(StartError::Worker)?;
            posts.push(post);
        }
        let upkeep = Upkeep::start(table.load_full()).map_err(StartError::Worker)?;
        sockets.carry_out(plan, &posts, None).map_err(StartError::Worker)?;
        let bound = sockets.bound();
        let (sockets, alive) = (Mutex::new(sockets), tokio::sync::Mutex::new(alive));
        let inner = Inner {
            table,
            sockets,
            workers: posts,
            turn: AtomicUsize::new(0),
            lanes,
            alarm,
            alive,
            upkeep,
            overload,
            before: Mutex::new(before),
            applied: AtomicU64::new(1),
            trios: Mutex::new(Some(trios)),
        };
        Ok((Handle(Arc::new(inner)), bound))
    }

    /// Swaps the whole model, its weights included: who applies one puts the
    /// live weights into it that are to stay. On problems nothing changes. The
    /// connections of listeners that are gone have until `deadline` to end.
    pub fn apply(&self, model: &Model, deadline: Duration) -> Result<(), Vec<Problem>> {
        let mut sockets = self.sockets();
        let previous = self.0.table.load_full();
        let table = Table::compile(model, Some(&previous), self.0.workers.len())?;
        let plan = sockets.plan(&model.listeners).map_err(|refused| {
            let problem = |refused: Refused| Problem {
                path: format!("listeners[{}].address", refused.listener),
                text: format!("cannot listen on {}: {}", refused.address, refused.cause),
            };
            refused.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        let table = Arc::new(table);
        self.0.table.store(table.clone());
        self.0.applied.fetch_add(1, Ordering::Relaxed);
        self.0.upkeep.turn_to(table);
        // The table is in force; a descriptor that cannot be shared out now is
        // met by the next reload.
        if let Err(cause) = sockets.carry_out(plan, &self.0.workers, Some(deadline)) {
            tracing::error!(%cause, "not every worker listens");
        }
        Ok(())
    }

    /// The listeners of now.
    pub fn bound(&self) -> Bound {
        self.sockets().bound()
    }

    /// Copies of all listening sockets, for a process that is to go on with them.
    pub fn hand_over(&self) -> std::io::Result<Vec<Inherited>> {
        self.sockets().hand_over()
    }

    /// A connection on which we ask ourselves, as one that came by this listener
    /// would be asked; what it carries is counted as load. None that could be
    /// reached from outside is made.
    pub fn connect_as_load(&self, listener: &str) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.workers.len();
        let order = Order::Adopt { stream: theirs, listener: listener.to_owned() };
        match self.0.workers[turn].send(order) {
            Ok(()) => Ok(ours),
            Err(_) => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// Is there too much, of whatever it be?
    pub fn is_pressed(&self) -> bool {
        self.0.overload.stage() != Stage::None
    }

    /// Every connection ends with the answer that it is given next; new ones
    /// are still accepted.
    pub fn farewell(&self) {
        self.order(|| Order::Farewell);
    }

    /// Accepts no more. What is under way and who has knocked is not disturbed.
    pub fn stop_accepting(&self) {
        for id in self.sockets().close_all() {
            self.order(|| Order::Close { id, deadline: None });
        }
        self.farewell();
    }

    /// Only a worker whose thread has ended does not hear.
    fn order(&self, order: impl Fn() -> Order) {
        for worker in &self.0.workers {
            let _ = worker.send(order());
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.0.sockets.lock().expect("no holder of this lock panics")
    }

    /// Changes the weights of one split; the next request of every worker obeys.
    /// A version that is not named gets none. Answers with the new generation.
    pub fn shift(&self, split: &str, weights: &Weights) -> Result<u64, ShiftError> {
        self.shift_as(split, weights, self.next_generation())
    }

    /// A name for the generations of several splits that are shifted together.
    pub fn next_generation(&self) -> u64 {
        split::take_id()
    }

    pub fn shift_as(&self, split: &str, weights: &Weights, generation: u64) -> Result<u64, ShiftError> {
        self.with_split(split, |plan| {
            let knows = |version: &str| plan.cell.versions.iter().any(|(name, _)| name == version);
            match weights.iter().find(|(version, _)| !knows(version)) {
                Some((version, _)) => {
                    Err(ShiftError::NoVersion { split: split.to_owned(), version: version.to_owned() })
                }
                None => Ok(plan.cell.shift_as(weights, generation)),
            }
        })?
    }

    /// Sets the ages that the judge of a split wants to hear of.
    pub fn mark(&self, split: &str, marks: Marks) -> Result<(), ShiftError> {
        self.with_split(split, |plan| plan.cell.mark(marks.slow_us, marks.reveal_us))
    }

    /// All counters of now, summed over the workers.
    pub fn readings(&self) -> Reading {
        self.readings_with(true)
    }

    /// The same without what judges alone look at: splits have no generations.
    pub fn counts(&self) -> Reading {
        self.readings_with(false)
    }

    fn readings_with(&self, evidence: bool) -> Reading {
        let table = self.0.table.load_full();
        let count = |of: fn(&LaneCounts) -> u64| self.0.lanes.iter().map(|lane| of(lane)).sum::<u64>();
        let mut reading = Reading {
            versions: versions_of(&table),
            splits: if evidence { self.evidence_of(&table, |_, _, _| true) } else { shares_of(&table) },
            breakers: table.bounds.iter().map(Bounds::read).collect(),
            endpoints: table.endpoints.iter().map(|hosts| hosts.endpoints()).collect(),
            health: table.endpoints.iter().map(|hosts| hosts.health()).collect(),
            connections: self.0.overload.connections(),
            overload: self.overload(),
            unrouted: count(|lane| lane.unrouted.get()),
            floods: count(|lane| lane.floods.get()),
            limited: count(|lane| lane.limited.get()),
            delayed: count(|lane| lane.delayed.get()),
            aborted: count(|lane| lane.aborted.get()),
            handshakes: count(|lane| lane.handshakes.get()),
            handshakes_failed: count(|lane| lane.handshakes_failed.get()),
            compared: count(|lane| lane.compared.get()),
            compared_dropped: count(|lane| lane.compared_dropped.get()),
        };
        if let Some(before) = &*self.before() {
            reading.add(before);
            if !evidence {
                reading.splits.iter_mut().for_each(|split| split.generations.clear());
            }
        }
        reading
    }

    /// Of these only what versions and splits have of requests: what is shown of a
    /// rollout.
    pub fn traffic(&self) -> Reading {
        let table = self.0.table.load_full();
        let mut reading =
            Reading { versions: versions_of(&table), splits: shares_of(&table), ..Reading::default() };
        if let Some(before) = &*self.before() {
            reading.add(before);
            reading.splits.iter_mut().for_each(|split| split.generations.clear());
        }
        reading
    }

    /// The counters of the versions that users have ever asked.
    pub fn used_versions(&self) -> Vec<Arc<VersionReading>> {
        if self.before().is_some() {
            return self.readings().versions;
        }
        let table = self.0.table.load_full();
        let asked = table.slots.iter().filter(|slot| slot.key.sent == Sent::ByUsers && slot.is_used());
        asked.map(|slot| slot.read()).collect()
    }

    fn overload(&self) -> OverloadReading {
        let overload = &self.0.overload;
        let [refused_requests, refused_connections] = overload.refused();
        OverloadReading { stage: overload.stage() as u8, refused_requests, refused_connections }
    }

    /// The weights in force, by split.
    pub fn weights(&self) -> BTreeMap<String, Weights> {
        let table = self.0.table.load();
        let weights =
            |plan: &SplitPlan| (plan.cell.name.clone(), plan.cell.generation.load().weights.clone());
        table.splits.iter().map(weights).collect()
    }

    /// Changes with every model that is put in force.
    pub fn applied(&self) -> u64 {
        self.0.applied.load(Ordering::Relaxed)
    }

    /// The evidence of these splits alone: what a judge needs at every look. Who
    /// knows a reading of the same state already need not want it again. Each is
    /// asked after by its place, too, which is its own as long as the model is.
    pub fn evidence(&self, mut wanted: impl FnMut(usize, &str, State) -> bool) -> Vec<SplitReading> {
        let before = self.before();
        // What a predecessor counts on we do not see move.
        let is_followed = before.as_ref().is_some_and(|before| !before.splits.is_empty());
        let wanted = |place: usize, split: &str, state: State| {
            wanted(place, split, if is_followed { State::default() } else { state })
        };
        let mut evidence = self.evidence_of(&self.0.table.load_full(), wanted);
        if let Some(before) = &*before {
            reading::precede(&mut evidence, &before.splits);
        }
        evidence
    }

    /// What we would leave to a successor now.
    pub fn legacy(&self) -> Legacy {
        // It may be told of weights for some time yet and make more of them.
        Legacy { reading: self.readings(), generation: split::next_id() + SPARE }
    }

    /// A predecessor that is ending has counted on.
    pub fn carry(&self, reading: Reading) {
        *self.before() = Some(reading);
    }

    /// The predecessor has ended and its evidence was taken; its counts stay.
    pub fn close_evidence(&self) {
        if let Some(before) = &mut *self.before() {
            before.splits.clear();
        }
    }

    fn before(&self) -> MutexGuard<'_, Option<Reading>> {
        self.0.before.lock().expect("no holder of this lock panics")
    }

    fn evidence_of(
        &self,
        table: &Table,
        mut wanted: impl FnMut(usize, &str, State) -> bool,
    ) -> Vec<SplitReading> {
        let applied = self.applied();
        let splits = table.splits.iter().zip(&table.model.splits).enumerate();
        splits
            .map(|(place, (plan, split))| {
                let moves = plan.cell.moves();
                (place, plan, split, State { applied, moves })
            })
            .filter(|(place, _, split, state)| wanted(*place, &split.name, *state))
            .map(|(_, plan, split, state)| {
                let generations = plan.cell.read();
                let newest = generations.last().expect("a split always has its present generation");
                SplitReading {
                    split: split.name.clone(),
                    service: split.service.clone(),
                    current: newest.id,
                    weights: newest.weights.clone(),
                    sticky: split.sticky.is_some(),
                    pairs: split.mirror.as_ref().map(|mirror| MirrorReading {
                        version: mirror.version.clone(),
                        pairs: plan.cell.read_pairs(),
                    }),
                    generations,
                    state,
                }
            })
            .collect()
    }

    /// Answers to compare. Who asks first gets them; they end with the last worker.
    pub fn trios(&self) -> Option<mpsc::Receiver<Trio>> {
        self.0.trios.lock().expect("no holder of this lock panics").take()
    }

    /// Resolves when a canary has failed or grown slow since the last call.
    pub async fn alarm(&self) {
        self.0.alarm.wait().await;
    }

    /// Stops accepting, lets requests end, and returns when all have or the
    /// deadline has passed.
    pub async fn drain(&self, deadline: Duration, pace: Pace) {
        self.sockets().close_all();
        self.order(|| Order::Drain { deadline, pace });
        let mut alive = self.0.alive.lock().await;
        while alive.recv().await.is_some() {}
    }

    fn with_split<T>(&self, name: &str, act: impl FnOnce(&SplitPlan) -> T) -> Result<T, ShiftError> {
        let table = self.0.table.load();
        table.split(name).map(act).ok_or_else(|| ShiftError::NoSplit(name.to_owned()))
    }
}

fn versions_of(table: &Table) -> Vec<Arc<VersionReading>> {
    table.slots.iter().filter(|slot| slot.is_shown()).map(|slot| slot.read()).collect()
}

/// The splits' weights.
fn shares_of(table: &Table) -> Vec<SplitReading> {
    let splits = table.splits.iter().zip(&table.model.splits);
    splits
        .map(|(plan, split)| {
            let newest = plan.cell.generation.load();
            SplitReading {
                split: split.name.clone(),
                service: split.service.clone(),
                current: newest.id,
                weights: newest.weights.clone(),
                sticky: split.sticky.is_some(),
                pairs: None,
                generations: Vec::new(),
                state: State::default(),
            }
        })
        .collect()
}
