//! One worker: an operating system thread that owns its runtime, its listening
//! sockets, its connections both ways and its counters for life.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::alarm::Alarm;
use crate::clock;
use crate::connections::Connections;
use crate::flights::Flights;
use crate::lane::Lane;
use crate::lane::LaneCounts;
use crate::listen;
use crate::listen::Ear;
use crate::listen::Hearing;
use crate::overload;
use crate::overload::Overload;
use crate::overload::Stage;
use crate::table::Table;
use crate::trio::Trio;

/// How often idle connections and slow heads are looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How often there might be too much, and every how many looks memory that is
/// free is given back while there is.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_PER_SHRINK: u32 = 5;
/// How often late connections are told that we are draining.
const TELL_AGAIN: Duration = Duration::from_millis(100);
/// How long a client that is let go must have been quiet before its connection
/// is closed; for a process that ends, and for one that goes on or has an heir.
const HURRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// All that a worker is given at birth.
pub struct Worker {
    pub index: usize,
    pub table: Arc<ArcSwap<Table>>,
    pub counts: Arc<LaneCounts>,
    pub alarm: Arc<Alarm>,
    pub overload: Arc<Overload>,
    /// Where answers go that are to be compared.
    pub trios: mpsc::Sender<Trio>,
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// Dropped when the worker has ended.
    pub alive: mpsc::Sender<()>,
}

/// What the handle tells its workers; none is waited for.
pub enum Order {
    Open(Ear),
    /// Accept no more on these sockets; their connections have so long to end,
    /// or for ever.
    Close {
        id: u64,
        deadline: Option<Duration>,
    },
    /// Serve this end of a pair, whose other end asks for our own load.
    Adopt {
        stream: UnixStream,
        listener: String,
    },
    /// Every connection ends with the answer that it is given next.
    Farewell,
    /// Accept nothing more, let requests end, and die.
    Drain {
        deadline: Duration,
        pace: Pace,
    },
}

/// How much of a hurry there is when connections are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nobody is there for whoever comes now.
    Hurried,
    /// Another listens in our place.
    Patient,
}

/// A worker's own side of its life.
struct Life {
    lane: Rc<Lane>,
    connections: Rc<Connections>,
    ears: HashMap<u64, watch::Sender<Hearing>>,
}

impl Worker {
    /// Returns once the worker's runtime stands, or with the reason why not.
    pub fn spawn(self) -> io::Result<()> {
        let (built, standing) = std::sync::mpsc::channel();
        let name = format!("serin-worker-{}", self.index);
        std::thread::Builder::new().name(name).spawn(move || {
            // A runtime that lives on one thread is built there.
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = runtime.map_err(|error| built.send(Err(error)));
            if let Ok(runtime) = runtime
                && built.send(Ok(())).is_ok()
            {
                // Told to have ended only when its sockets are closed and all is counted.
                let alive = self.alive.clone();
                runtime.block_on(self.live());
                drop(runtime);
                drop(alive);
            }
        })?;
        standing.recv().unwrap_or_else(|_| Err(io::Error::other("the worker's thread ended at once")))
    }

    async fn live(mut self) {
        let flights = Rc::new(Flights::new(self.index, self.alarm.clone()));
        tokio::task::spawn_local(flights.clone().sweep());
        let lane = Rc::new(Lane::new(
            self.index,
            self.table.clone(),
            flights,
            self.counts.clone(),
            self.overload.clone(),
            self.trios.clone(),
        ));
        let connections = Rc::new(Connections::default());
        tokio::task::spawn_local(keep_house(lane.clone(), connections.clone()));
        tokio::task::spawn_local(keep_within(lane.clone(), connections.clone()));
        let mut life = Life { lane, connections, ears: HashMap::new() };
        let (deadline, pace) = loop {
            match self.orders.recv().await {
                Some(Order::Open(ear)) => life.open(ear),
                Some(Order::Close { id, deadline }) => life.close(id, deadline),
                Some(Order::Adopt { stream, listener }) => {
                    listen::adopt(stream, &listener, &life.lane, &life.connections);
                }
                Some(Order::Farewell) => life.connections.farewell(),
                Some(Order::Drain { deadline, pace }) => break (deadline, pace),
                // The handle is gone, and with it everybody who could ask for more.
                None => break (Duration::ZERO, Pace::Hurried),
            }
        };
        life.drain(deadline, pace).await;
    }
}

impl Life {
    fn open(&mut self, ear: Ear) {
        let hearing = self.ears.entry(ear.id).or_insert_with(|| watch::channel(Hearing::Open).0).subscribe();
        tokio::task::spawn_local(listen::accept(ear, self.lane.clone(), self.connections.clone(), hearing));
    }

    fn close(&mut self, id: u64, deadline: Option<Duration>) {
        let Some(hearing) = self.ears.remove(&id) else { return };
        hearing.send_replace(Hearing::Closing);
        if let Some(deadline) = deadline {
            tokio::task::spawn_local(see_off(self.connections.clone(), Some(id), deadline, Pace::Patient));
        }
    }

    async fn drain(mut self, deadline: Duration, pace: Pace) {
        for (_, hearing) in self.ears.drain() {
            hearing.send_replace(Hearing::Closing);
        }
        see_off(self.connections, None, deadline, pace).await;
    }
}

/// Lets the connections of some sockets, or of all, end after what is under way.
async fn see_off(connections: Rc<Connections>, id: Option<u64>, deadline: Duration, pace: Pace) {
    let until_us = clock::now_us().saturating_add(clock::us(deadline));
    let patience = match pace {
        Pace::Hurried => HURRY,
        Pace::Patient => PATIENCE,
    };
    let patience_us = clock::us(patience.min(deadline / 2));
    // Whoever knocked in time is let in first.
    tokio::task::yield_now().await;
    let mut told_us = 0;
    while connections.count(id) > 0 {
        let now_us = clock::now_us();
        if now_us >= until_us {
            connections.cut(id);
            return;
        }
        if now_us > told_us + clock::us(TELL_AGAIN) {
            told_us = now_us;
            connections.see_off(id, patience_us, now_us);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Looks whether there is too much, and acts on what was found.
async fn keep_within(lane: Rc<Lane>, connections: Rc<Connections>) {
    let (mut pressed, mut looks) = (false, 0_u32);
    loop {
        tokio::time::sleep(LOOK).await;
        let is_first = lane.index == 0;
        if is_first {
            let memory_bytes = overload::resident_bytes().unwrap_or(0);
            lane.overload.weigh(&lane.view().table.model.overload, memory_bytes);
        }
        let now = lane.overload.stage() != Stage::None;
        if now || pressed {
            connections.press(now, clock::now_us());
        }
        if now {
            lane.buffers.shed();
        }
        pressed = now;
        looks = looks.wrapping_add(1);
        if is_first && now && looks.is_multiple_of(LOOKS_PER_SHRINK) {
            overload::shrink();
        }
    }
}

async fn keep_house(lane: Rc<Lane>, connections: Rc<Connections>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now_us = clock::now_us();
        connections.sweep(now_us);
        lane.expire(now_us);
    }
}
