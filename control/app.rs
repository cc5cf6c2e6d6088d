//! The composition root: what is started in which order, and how it all ends.
//!
//! Start: read the file, open the journal, restore the rollouts, and only then
//! accept a connection, so that the first request already meets the restored
//! weights. Stop: accept nothing more, let requests end while the tick still
//! judges, write the last checkpoints, leave.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serin_proxy::weights::percent;
use serin_proxy::{Bound, Handle, Model, Pace};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::admin::{self, Admin, Demand, Facts, Life};
use crate::clock::Clock;
use crate::config::problem::Problem;
use crate::config::{self, Drain, Files, Loaded, Referenced};
use crate::fleet::Fleet;
use crate::journal::{Journal, OpenError};
use crate::source;
use crate::source::Change;
use crate::source::file::WatchError;
use crate::tick::ask::{Ask, Desk};
use crate::tick::{Fixed, Parts, Tick};

/// The state directory beside the file when the file names none.
const STATE: &str = "serin-state";

#[derive(Clone, Debug)]
pub struct Options {
    pub config: PathBuf,
    /// Instead of the file's.
    pub admin: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("the configuration is refused\n{}", .0.join("\n"))]
    Config(Vec<String>),
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error("cannot listen for the admin API on {0}")]
    Admin(SocketAddr, #[source] std::io::Error),
    #[error("cannot start the proxy")]
    Proxy(#[source] serin_proxy::StartError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// A started serin; nothing of it runs until [`App::run`].
pub struct App {
    pub bound: Bound,
    pub admin: SocketAddr,
    handle: Handle,
    tick: Tick,
    asks: mpsc::Receiver<Ask>,
    changes: mpsc::Receiver<Change>,
    listener: TcpListener,
    server: Admin,
    life: watch::Sender<Life>,
    drain: watch::Receiver<Drain>,
    demands: mpsc::Receiver<Demand>,
    signals: Signals,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl App {
    /// Binds and restores everything. Must be called within a current-thread runtime.
    pub async fn start(options: &Options) -> Result<App, StartError> {
        let (loaded, text, referenced) = load(&options.config)?;
        let state = state_directory(&options.config, loaded.state.as_deref());
        let (mut journal, past) = Journal::open(&state)?;
        if past.cut > 0 {
            tracing::warn!(bytes = past.cut, "the journal's last line was torn and is cut away");
        }
        let clock = Clock::start(past.latest);
        let now = clock.now();
        forget_absent(&mut journal, &past.rollouts, &loaded, now);
        let fleet = Fleet::restore(&loaded, past, now);
        let model = fleet.model_at_start(&loaded);
        tell_restored(&fleet, &model);
        let address = options.admin.unwrap_or(loaded.admin);
        let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Admin(address, cause))?;
        let admin = listener.local_addr().map_err(|cause| StartError::Admin(address, cause))?;
        let signals = Signals::listen().map_err(StartError::Signals)?;
        let workers = loaded.workers.unwrap_or_else(cores);
        let (handle, bound) =
            start_proxy(&model, workers).await.map_err(|cause| proxy_error(&options.config, cause))?;
        let (desk, asks) = Desk::new();
        let (life, living) = watch::channel(Life::Starting);
        let facts = Facts {
            clock: Clock::start(now),
            started: now,
            workers,
            config: options.config.clone(),
            state,
            admin,
            handle: handle.clone(),
        };
        let (noticed, changes) = mpsc::channel(1);
        let watch = source::file::watch(&options.config, text.clone(), referenced.clone(), noticed)?;
        let (drain, drains) = watch::channel(loaded.drain);
        let tick = Tick::new(Parts {
            handle: handle.clone(),
            clock,
            fleet,
            journal,
            model,
            path: options.config.clone(),
            text,
            referenced,
            watch,
            fixed: Fixed { admin: loaded.admin, workers: loaded.workers, state: loaded.state },
            drain,
            warnings: loaded.warnings.iter().map(Problem::to_string).collect(),
        });
        let (demand, demands) = mpsc::channel(1);
        let server = Admin { desk, facts: Arc::new(facts), life: living, demands: demand };
        let drain = drains;
        Ok(App { bound, admin, handle, tick, asks, changes, listener, server, life, drain, demands, signals })
    }

    /// Runs until a signal or `stop`, then drains. A second signal ends at once.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let (stop_tick, tick_stops) = oneshot::channel();
        let tick = tokio::spawn(self.tick.run(self.asks, self.changes, tick_stops));
        let desk = self.server.desk.clone();
        let server = tokio::spawn(admin::serve(self.listener, self.server));
        self.life.send_replace(Life::Live);
        tracing::info!(admin = %self.admin, listeners = listed(&self.bound), "serin is live");
        let mut wishes = Wishes {
            handle: &self.handle,
            life: &self.life,
            drain: &self.drain,
            demands: &mut self.demands,
            stop_at: None,
        };
        tokio::select! {
            () = self.signals.wait(stop, &desk) => {}
            () = wishes.grant() => {}
        }
        self.life.send_replace(Life::Draining);
        let drain = *self.drain.borrow();
        tokio::select! {
            () = end(&self.handle, drain) => {}
            () = self.signals.again() => tracing::warn!("stopped while requests were under way"),
        }
        // The tick may only be gone already if it panicked, and then that was told.
        let _ = stop_tick.send(());
        let _ = tick.await;
        server.abort();
        tracing::info!("stopped");
    }
}

/// Whoever sends us traffic first has time to hear that we are not ready.
async fn end(handle: &Handle, drain: Drain) {
    if !drain.delay.is_zero() {
        tracing::info!(delay = ?drain.delay, "about to drain; connections end with their next answer");
        handle.farewell();
        tokio::time::sleep(drain.delay).await;
    }
    tracing::info!(timeout = ?drain.timeout, "draining");
    handle.drain(drain.timeout, Pace::Hurried).await;
}

/// What operators ask of the process while it lives on.
struct Wishes<'a> {
    handle: &'a Handle,
    life: &'a watch::Sender<Life>,
    drain: &'a watch::Receiver<Drain>,
    demands: &'a mut mpsc::Receiver<Demand>,
    stop_at: Option<Instant>,
}

impl Wishes<'_> {
    /// Never returns: no wish ends the process.
    async fn grant(&mut self) {
        loop {
            let stop_at = self.stop_at;
            let later = async {
                match stop_at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = later => {
                    self.stop_at = None;
                    self.stop_accepting();
                }
                demand = self.demands.recv() => match demand {
                    Some(demand) => self.obey(demand),
                    None => pending().await,
                },
            }
        }
    }

    fn obey(&mut self, demand: Demand) {
        self.life.send_replace(Life::Draining);
        tracing::info!(?demand, "asked to let clients go");
        match demand {
            Demand::StopAccepting => self.stop_accepting(),
            Demand::StopAcceptingLater => {
                self.handle.farewell();
                self.stop_at = Some(Instant::now() + self.drain.borrow().timeout);
            }
            Demand::SayFarewell => self.handle.farewell(),
        }
    }

    fn stop_accepting(&self) {
        self.handle.stop_accepting();
        tracing::info!("no longer accepting connections");
    }
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when it is time to stop; until then a hangup reads the file again.
    async fn wait(&mut self, stop: impl Future<Output = ()>, desk: &Desk) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    // The tick logs how it went, and it only stops after us.
                    let _ = desk.ask(|reply| Ask::Reload { reply }).await;
                }
            }
        }
    }

    async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn load(path: &Path) -> Result<(Loaded, String, Referenced), StartError> {
    let text = source::file::read(path).map_err(|cause| StartError::Read(path.to_owned(), cause))?;
    let files = Files::beside(path, source::file::read_referenced);
    let loaded = config::load(&path.display().to_string(), &text, &files)
        .map_err(|problems| StartError::Config(problems.iter().map(Problem::to_string).collect()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok((loaded, text, files.referenced()))
}

/// Starting workers blocks, which a runtime's own thread may not.
async fn start_proxy(model: &Model, workers: usize) -> Result<(Handle, Bound), serin_proxy::StartError> {
    let model = model.clone();
    let start = move || Handle::start(&model, serin_proxy::Options { workers, ..Default::default() });
    tokio::task::spawn_blocking(start).await.expect("starting the proxy does not panic")
}

/// Relative to the file that names it, wherever serin is started from.
fn state_directory(config: &Path, state: Option<&Path>) -> PathBuf {
    let beside = config.parent().unwrap_or(Path::new(""));
    beside.join(state.unwrap_or(Path::new(STATE)))
}

/// A rollout that the file no longer names must not come back from an old
/// checkpoint when a later file names it again.
fn forget_absent(
    journal: &mut Journal,
    past: &BTreeMap<String, crate::journal::PastRollout>,
    loaded: &Loaded,
    at: crate::clock::Moment,
) {
    let is_absent = |name: &&String| loaded.rollouts.iter().all(|spec| spec.name != **name);
    let absent: Vec<_> =
        past.keys().filter(is_absent).map(|rollout| crate::journal::Entry::Dropped { at, rollout }).collect();
    if let Err(cause) = journal.append(&absent) {
        tracing::error!(%cause, "the journal cannot be written");
    }
}

/// After a restart the first question is where everything stands.
fn tell_restored(fleet: &Fleet, model: &Model) {
    for governed in &fleet.rollouts {
        let spec = governed.spec();
        let split = model.splits.iter().find(|split| split.name == spec.split);
        let canary_percent = split.map(|split| percent(split.weights.of(&spec.canary)));
        tracing::info!(rollout = spec.name, canary_percent, "rollout is {}", governed.phase().name());
    }
}

fn proxy_error(config: &Path, cause: serin_proxy::StartError) -> StartError {
    match cause {
        serin_proxy::StartError::Model(problems) => {
            let line = |problem: &serin_proxy::Problem| {
                format!("{}: {}: {}", config.display(), problem.path, problem.text)
            };
            StartError::Config(problems.iter().map(line).collect())
        }
        cause => StartError::Proxy(cause),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn listed(bound: &Bound) -> String {
    let listeners: Vec<String> = bound.0.iter().map(|(name, address)| format!("{name} {address}")).collect();
    listeners.join(", ")
}
