//! The only door into the proxy.

#![expect(clippy::disallowed_types, reason = "its locks are the control side's; no request waits for them")]

use std::net::SocketAddr;
use std::time::Duration;

use std::sync::Arc;
use std::sync::Mutex;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::alarm::Alarm;
use crate::lane::LaneCounts;
use crate::listen;
use crate::model::Model;
use crate::reading::Reading;
use crate::reading::SplitReading;
use crate::table::SplitPlan;
use crate::table::Table;
use crate::upkeep::Upkeep;
use crate::weights::Weights;
use crate::worker::Worker;

pub use crate::table::Problem;

/// Listener names and the addresses they really got.
#[derive(Clone, Debug)]
pub struct Bound(pub Vec<(String, SocketAddr)>);

#[derive(Clone, Debug)]
pub struct Options {
    pub workers: usize,
}

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
    applying: Mutex<()>,
    workers: usize,
    lanes: Vec<Arc<LaneCounts>>,
    alarm: Arc<Alarm>,
    drain: watch::Sender<Option<Duration>>,
    alive: tokio::sync::Mutex<mpsc::Receiver<()>>,
    upkeep: Upkeep,
}

impl Handle {
    /// Compiles the model, binds its listeners and starts the workers.
    pub fn start(model: &Model, options: &Options) -> Result<(Handle, Bound), StartError> {
        let workers = options.workers.max(1);
        let table = Table::compile(model, None, workers).map_err(StartError::Model)?;
        let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for listener in &model.listeners {
            let address = listener.address;
            let listen = |source| StartError::Listen { address, source };
            let opened = listen::bind(address, workers).map_err(listen)?;
            bound.push((listener.name.clone(), opened[0].local_addr().map_err(listen)?));
            for (worker, socket) in sockets.iter_mut().zip(opened) {
                worker.push((socket, listener.limits.clone()));
            }
        }
        let table = Arc::new(ArcSwap::from_pointee(table));
        let alarm = Arc::new(Alarm::default());
        let (drain, draining) = watch::channel(None);
        let (living, alive) = mpsc::channel(1);
        let lanes: Vec<Arc<LaneCounts>> = (0..workers).map(|_| Arc::default()).collect();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let worker = Worker {
                index,
                table: table.clone(),
                counts: lanes[index].clone(),
                alarm: alarm.clone(),
                sockets,
                drain: draining.clone(),
                alive: living.clone(),
            };
            worker.spawn().map_err(StartError::Worker)?;
        }
        let alive = tokio::sync::Mutex::new(alive);
        let upkeep = Upkeep::start(table.load_full()).map_err(StartError::Worker)?;
        let applying = Mutex::default();
        let inner = Inner { table, applying, workers, lanes, alarm, drain, alive, upkeep };
        Ok((Handle(Arc::new(inner)), Bound(bound)))
    }

    /// Swaps the whole model, its weights included: who applies one puts the
    /// live weights into it that are to stay. On problems nothing changes.
    pub fn apply(&self, model: &Model) -> Result<(), Vec<Problem>> {
        let _applying = self.0.applying.lock().expect("no holder of this lock panics");
        let previous = self.0.table.load_full();
        if model.listeners != previous.model.listeners {
            let text =
                "listeners and their limits cannot change while running; restart to change them".to_owned();
            return Err(vec![Problem { path: "listeners".to_owned(), text }]);
        }
        let table = Table::compile(model, Some(&previous), self.0.workers)?;
        let table = Arc::new(table);
        self.0.table.store(table.clone());
        self.0.upkeep.turn_to(table);
        Ok(())
    }

    /// Changes the weights of one split; the next request of every worker obeys.
    /// A version that is not named gets none. Answers with the new generation.
    pub fn shift(&self, split: &str, weights: &Weights) -> Result<u64, ShiftError> {
        self.with_split(split, |plan| {
            let knows = |version: &str| plan.cell.versions.iter().any(|(name, _)| name == version);
            match weights.iter().find(|(version, _)| !knows(version)) {
                Some((version, _)) => {
                    Err(ShiftError::NoVersion { split: split.to_owned(), version: version.to_owned() })
                }
                None => Ok(plan.cell.shift(weights)),
            }
        })?
    }

    /// Sets the ages that the judge of a split wants to hear of.
    pub fn mark(&self, split: &str, marks: Marks) -> Result<(), ShiftError> {
        self.with_split(split, |plan| plan.cell.mark(marks.slow_us, marks.reveal_us))
    }

    /// All counters of now, summed over the workers.
    pub fn readings(&self) -> Reading {
        let table = self.0.table.load_full();
        let count = |of: fn(&LaneCounts) -> u64| self.0.lanes.iter().map(|lane| of(lane)).sum::<u64>();
        Reading {
            versions: table.slots.iter().map(|slot| slot.read()).collect(),
            splits: self.evidence_of(&table),
            connections: count(|lane| lane.opened.get().saturating_sub(lane.closed.get())),
            unrouted: count(|lane| lane.unrouted.get()),
        }
    }

    /// The splits' evidence alone: what a judge needs at every look.
    pub fn evidence(&self) -> Vec<SplitReading> {
        self.evidence_of(&self.0.table.load_full())
    }

    fn evidence_of(&self, table: &Table) -> Vec<SplitReading> {
        table
            .splits
            .iter()
            .zip(&table.model.splits)
            .map(|(plan, split)| {
                let generations = plan.cell.read();
                let newest = generations.last().expect("a split always has its present generation");
                SplitReading {
                    split: split.name.clone(),
                    service: split.service.clone(),
                    current: newest.id,
                    weights: newest.weights.clone(),
                    sticky: split.sticky.is_some(),
                    generations,
                }
            })
            .collect()
    }

    /// Resolves when a canary has failed or grown slow since the last call.
    pub async fn alarm(&self) {
        self.0.alarm.wait().await;
    }

    /// Stops accepting, lets requests end, and returns when all have or the
    /// deadline has passed.
    pub async fn drain(&self, deadline: Duration) {
        self.0.drain.send_replace(Some(deadline));
        let mut alive = self.0.alive.lock().await;
        while alive.recv().await.is_some() {}
    }

    fn with_split<T>(&self, name: &str, act: impl FnOnce(&SplitPlan) -> T) -> Result<T, ShiftError> {
        let table = self.0.table.load();
        table.split(name).map(act).ok_or_else(|| ShiftError::NoSplit(name.to_owned()))
    }
}
