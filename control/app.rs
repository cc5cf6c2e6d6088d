//! The composition root: what is started in which order, and how it all ends.
//!
//! Start: read the file, open the journal, restore the rollouts, and only then
//! accept a connection, so that the first request already meets the restored
//! weights. Stop: accept nothing more, let requests end while the tick still
//! judges, write the last checkpoints, leave.

mod claim;
mod life;
mod succession;
mod wishes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serin_proxy::weights::percent;
use serin_proxy::{Bound, Handle, Inherited, Legacy, Model};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::{Admin, Demand, Facts, Life};
use crate::answers::Board;
use crate::audit::Audit;
use crate::clock::{Clock, Moment};
use crate::config::problem::Problem;
use crate::config::{self, Drain, Files, Loaded, Referenced};
use crate::fleet::Fleet;
use crate::handover::{Doorstep, Succession};
use crate::journal::{Entry, Journal, OpenError, Past, PastRollout};
use crate::limits;
use crate::load::Loads;
use crate::outward::Outward;
use crate::rollout::Event;
use crate::series::keeper::Keeper;
use crate::source;
use crate::source::Change;
use crate::source::file::WatchError;
use crate::systemd;
use crate::tick::ask::Desk;
use crate::tick::view::Reloads;
use crate::tick::{Fixed, Parts, Tick};
use claim::Claim;
use life::Ticking;
use wishes::Signals;

/// The state directory beside the file when the file names none.
const STATE: &str = "serin-state";
/// In it, the metrics' past.
const HISTORY: &str = "history";

#[derive(Clone, Debug)]
pub struct Options {
    pub config: PathBuf,
    /// Instead of the file's.
    pub admin: Option<SocketAddr>,
    /// Take over from the serin that runs on the same state directory.
    pub hot_restart: bool,
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
    #[error("the sockets that systemd opened cannot be used")]
    Inherited(#[source] std::io::Error),
    #[error("cannot take over from the running serin")]
    Elder(#[source] std::io::Error),
    #[error("cannot begin to speak to others")]
    Outward(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// A started serin; nothing of it runs until [`App::run`].
pub struct App {
    pub bound: Bound,
    pub admin: SocketAddr,
    handle: Handle,
    ticking: Option<Ticking>,
    listener: std::net::TcpListener,
    server: Admin,
    life: watch::Sender<Life>,
    drain: watch::Receiver<Drain>,
    demands: mpsc::Receiver<Demand>,
    signals: Signals,
    /// When to stop accepting, where an operator has asked for it.
    stop_at: Option<Instant>,
    doorstep: Option<Doorstep>,
    /// Set while another process waits to hear that we are live.
    succession: Option<Succession>,
    /// Hears what the process before us still counts.
    following: Option<JoinHandle<()>>,
}

impl App {
    /// Binds and restores everything. Must be called within a current-thread runtime.
    pub async fn start(options: &Options) -> Result<App, StartError> {
        succession::remember_program();
        let read = load(&options.config)?;
        let loaded = &read.loaded;
        let state = state_directory(&options.config, loaded.state.as_deref());
        let claim = match options.hot_restart {
            true => Claim::inherited(&state, loaded).await?,
            false => Claim::own(&state, loaded)?,
        };
        let Claim { mut journal, mut past, mut sockets, admin, legacy, reloads, succession } = claim;
        let clock = Clock::start(past.latest);
        let (now, told) = (clock.now(), std::mem::take(&mut past.told));
        let fleet = restore(&mut journal, past, legacy.as_ref(), loaded, now);
        let model = fleet.model_at_start(loaded);
        tell_restored(&fleet, &model);
        let address = options.admin.unwrap_or(loaded.admin);
        let listener = admin_socket(address, admin, &mut sockets);
        let listener = listener.map_err(|cause| StartError::Admin(address, cause))?;
        let admin = listener.local_addr().map_err(|cause| StartError::Admin(address, cause))?;
        let signals = Signals::listen().map_err(StartError::Signals)?;
        let workers = loaded.workers.unwrap_or_else(cores);
        let ceilings = limits::respect();
        limits::warn_of_short_descriptors(&model, &ceilings);
        let proxy = serin_proxy::Options { workers, inherited: sockets, legacy, ceilings };
        let started = start_proxy(&model, proxy).await;
        let (handle, bound) = started.map_err(|cause| proxy_error(&options.config, cause))?;
        let doorstep = if journal.is_somewhere() { open_doorstep(&state) } else { None };
        let kept = journal.is_somewhere().then(|| state.clone());
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
            keeper: Keeper::new(kept.as_ref().map(|state| state.join(HISTORY))),
        };
        let (drain, drains) = watch::channel(loaded.drain);
        let (in_force, configured) = watch::channel(Arc::new(loaded.clone()));
        let board = compare_answers(loaded, &handle)?;
        let begun =
            Begun { handle: handle.clone(), clock, fleet, journal, told, model, reloads, drain, in_force };
        let (tick, changes) = begun.into_tick(&options.config, read, &board)?;
        let (demand, demands) = mpsc::channel(1);
        start_load(&desk, &configured, &handle, &living)?;
        let outward =
            Outward::start(&desk, configured, kept.as_deref(), admin).map_err(StartError::Outward)?;
        let server = Admin::new(desk, facts, living, demand, outward, Audit::new(kept.as_deref()), board);
        let ticking = Some(Ticking { tick, asks, changes });
        let (drain, stop_at, following) = (drains, None, None);
        Ok(App {
            bound,
            admin,
            handle,
            ticking,
            listener,
            server,
            life,
            drain,
            demands,
            signals,
            stop_at,
            doorstep,
            succession,
            following,
        })
    }
}

fn compare_answers(loaded: &Loaded, handle: &Handle) -> Result<Board, StartError> {
    let board = Board::default();
    board.configure(&loaded.compared);
    match handle.trios() {
        Some(trios) => board.start(trios).map_err(StartError::Outward)?,
        None => unreachable!("nobody else asks a proxy that was just started"),
    }
    Ok(board)
}

fn start_load(
    desk: &Desk,
    loaded: &watch::Receiver<Arc<Loaded>>,
    handle: &Handle,
    life: &watch::Receiver<Life>,
) -> Result<(), StartError> {
    let (desk, loaded, handle, life) = (desk.clone(), loaded.clone(), handle.clone(), life.clone());
    Loads { desk, loaded, handle, life }.start().map_err(StartError::Outward)
}

/// What was read of the file and of those it refers to.
struct Read {
    loaded: Loaded,
    text: String,
    referenced: Referenced,
}

/// What the tick is made of, beside the file.
struct Begun {
    handle: Handle,
    clock: Clock,
    fleet: Fleet,
    journal: Journal,
    told: VecDeque<Event>,
    model: Model,
    reloads: Reloads,
    drain: watch::Sender<Drain>,
    in_force: watch::Sender<Arc<Loaded>>,
}

impl Begun {
    fn into_tick(
        self,
        path: &Path,
        read: Read,
        board: &Board,
    ) -> Result<(Tick, mpsc::Receiver<Change>), StartError> {
        let Begun { handle, clock, fleet, journal, told, model, reloads, drain, in_force } = self;
        let Read { loaded, text, referenced } = read;
        let (noticed, changes) = mpsc::channel(1);
        let watch = source::file::watch(path, text.clone(), referenced.clone(), noticed)?;
        let tick = Tick::new(Parts {
            handle,
            clock,
            fleet,
            journal,
            model,
            path: path.to_owned(),
            text,
            referenced,
            watch,
            fixed: Fixed { admin: loaded.admin, workers: loaded.workers, state: loaded.state },
            drain,
            metrics: loaded.metrics,
            loaded: in_force,
            board: board.clone(),
            reloads,
            warnings: loaded.warnings.iter().map(Problem::to_string).collect(),
            told,
        });
        Ok((tick, changes))
    }
}

/// Goes on from the journal; what is no longer in the file is struck from it.
fn restore(
    journal: &mut Journal,
    past: Past,
    legacy: Option<&Legacy>,
    loaded: &Loaded,
    now: Moment,
) -> Fleet {
    if past.cut > 0 {
        tracing::warn!(bytes = past.cut, "the journal's last line was torn and is cut away");
    }
    forget_absent(journal, &past.rollouts, loaded, now);
    let mut fleet = Fleet::restore(loaded, past, now);
    if let Some(legacy) = legacy {
        fleet.has_seen(&legacy.reading.splits);
    }
    fleet
}

/// Without a place to knock serin runs as well, until somebody wants to follow it.
fn open_doorstep(state: &Path) -> Option<Doorstep> {
    match Doorstep::open(state) {
        Ok(doorstep) => Some(doorstep),
        Err(cause) => {
            tracing::warn!(%cause, state = %state.display(), "no hot restart: successors cannot knock");
            None
        }
    }
}

/// The one of the process before us where it is the same, or systemd's, or a new one.
fn admin_socket(
    address: SocketAddr,
    handed: Option<std::net::TcpListener>,
    sockets: &mut Vec<Inherited>,
) -> std::io::Result<std::net::TcpListener> {
    let named = sockets.iter().position(|socket| socket.name == systemd::ADMIN && socket.asked.is_none());
    let given = named.map(|index| sockets.swap_remove(index).socket);
    // Port 0 is any port, also the one that the process before us was given.
    let is_meant = |socket: &std::net::TcpListener| {
        let same =
            |bound: SocketAddr| bound == address || (address.port() == 0 && bound.ip() == address.ip());
        socket.local_addr().is_ok_and(same)
    };
    let listener = match given.or(handed.filter(is_meant)) {
        Some(listener) => listener,
        None => std::net::TcpListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn load(path: &Path) -> Result<Read, StartError> {
    let text = source::file::read(path).map_err(|cause| StartError::Read(path.to_owned(), cause))?;
    let files = Files::beside(path, source::file::read_referenced);
    let loaded = config::load(&path.display().to_string(), &text, &files)
        .map_err(|problems| StartError::Config(problems.iter().map(Problem::to_string).collect()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for warning in crate::certificates::warnings(&loaded.model, Clock::start(Moment::default()).now()) {
        tracing::warn!("{warning}");
    }
    let referenced = files.referenced();
    Ok(Read { loaded, text, referenced })
}

/// Starting workers blocks, which a runtime's own thread may not.
async fn start_proxy(
    model: &Model,
    options: serin_proxy::Options,
) -> Result<(Handle, Bound), serin_proxy::StartError> {
    let model = model.clone();
    let start = move || Handle::start(&model, options);
    tokio::task::spawn_blocking(start).await.expect("starting the proxy does not panic")
}

/// Relative to the file that names it, wherever serin is started from.
fn state_directory(config: &Path, state: Option<&Path>) -> PathBuf {
    let beside = config.parent().unwrap_or(Path::new(""));
    beside.join(state.unwrap_or(Path::new(STATE)))
}

/// A rollout that the file no longer names must not come back from an old
/// checkpoint when a later file names it again.
fn forget_absent(journal: &mut Journal, past: &BTreeMap<String, PastRollout>, loaded: &Loaded, at: Moment) {
    let is_absent = |name: &&String| loaded.rollouts.iter().all(|spec| spec.name != **name);
    let absent: Vec<_> =
        past.keys().filter(is_absent).map(|rollout| Entry::Dropped { at, rollout }).collect();
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
