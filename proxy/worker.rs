//! One worker: an operating system thread that owns its runtime, its listening
//! sockets, its connections both ways and its counters for life.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::alarm::Alarm;
use crate::clock;
use crate::connections::Connections;
use crate::connections::Ending;
use crate::flights::Flights;
use crate::lane::Lane;
use crate::lane::LaneCounts;
use crate::listen;
use crate::model::Limits;
use crate::table::Table;

/// How often idle connections and slow heads are looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How often late connections are told that we are draining.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// All that a worker is given at birth.
pub struct Worker {
    pub index: usize,
    pub table: Arc<ArcSwap<Table>>,
    pub counts: Arc<LaneCounts>,
    pub alarm: Arc<Alarm>,
    pub sockets: Vec<(std::net::TcpListener, Limits)>,
    /// Turns true when the worker is to drain.
    pub drain: watch::Receiver<Option<Duration>>,
    /// Dropped when the worker has ended.
    pub alive: mpsc::Sender<()>,
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
        let lane = Rc::new(Lane::new(self.index, self.table.clone(), flights, self.counts.clone()));
        let connections = Rc::new(Connections::default());
        for (socket, limits) in std::mem::take(&mut self.sockets) {
            let listener = TcpListener::from_std(socket).expect("a listening socket joins a live reactor");
            let (lane, connections, limits) = (lane.clone(), connections.clone(), Rc::new(limits));
            tokio::task::spawn_local(listen::accept(listener, lane, connections, limits, self.drain.clone()));
        }
        tokio::task::spawn_local(keep_house(lane, connections.clone()));
        // An error means that the handle is gone, and with it everybody who could ask for more.
        let deadline = match self.drain.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        };
        drain(&connections, deadline).await;
    }
}

async fn drain(connections: &Connections, deadline: Duration) {
    let until_us = clock::now_us() + clock::us(deadline);
    // Whoever knocked in time is let in first.
    tokio::task::yield_now().await;
    let mut told_us = 0;
    while connections.len() > 0 && clock::now_us() < until_us {
        if clock::now_us() > told_us + clock::us(TELL_AGAIN) {
            told_us = clock::now_us();
            connections.end_all(Ending::Graceful);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
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
