//! The life of the process after its start: it serves, hands over or drains.

use std::future::Future;
use std::time::Duration;

use serin_proxy::{Handle, Pace};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::admin::{self, Life};
use crate::config::Drain;
use crate::handover::{Doorstep, Draining, Heir};
use crate::source::Change;
use crate::systemd;
use crate::tick::Tick;
use crate::tick::ask::Ask;

use super::wishes::Wishes;
use super::{App, listed, succession};

/// At the end, what is told to others has so long to arrive.
const LETTERS: Duration = Duration::from_secs(2);

/// The tick and all that only it reads, wherever they are just now.
pub struct Ticking {
    pub tick: Tick,
    pub asks: mpsc::Receiver<Ask>,
    pub changes: mpsc::Receiver<Change>,
}

/// What ended the serving.
enum Next {
    End,
    /// A successor has read its configuration and waits.
    Heir(Heir),
}

/// The parts of a serving process that can be stopped and started again.
struct Serving {
    stop_tick: oneshot::Sender<()>,
    tick: JoinHandle<Ticking>,
    stop_admin: oneshot::Sender<()>,
    admin: JoinHandle<std::io::Result<()>>,
}

impl App {
    /// Runs until a signal or `stop`, then drains; or until a successor has taken
    /// over. A second signal ends at once.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        if let Some(succession) = self.succession.take() {
            self.following = succession::proclaim(succession, &self.handle);
        }
        self.life.send_replace(Life::Live);
        tracing::info!(admin = %self.admin, listeners = listed(&self.bound), "serin is live");
        systemd::ready();
        if let Err(cause) = admin::metrics::history::begin(&self.server) {
            tracing::error!(%cause, "no history of metrics is kept");
        }
        let watchdog = tokio::spawn(systemd::keep_watch(self.server.desk.clone()));
        let mut ticking = self.ticking.take().expect("a started serin has its tick");
        loop {
            let serving = match self.serve(ticking) {
                Ok(serving) => serving,
                Err(cause) => return tracing::error!(%cause, "cannot serve the admin API"),
            };
            match self.next(stop.as_mut()).await {
                Next::End => {
                    systemd::stopping();
                    self.end(serving).await;
                    break;
                }
                Next::Heir(heir) => match self.hand_over(serving, heir).await {
                    Ok(draining) => {
                        self.see_out(draining).await;
                        break;
                    }
                    Err(taken_back) => ticking = taken_back,
                },
            }
        }
        watchdog.abort();
        tracing::info!("stopped");
    }

    fn serve(&self, mut ticking: Ticking) -> std::io::Result<Serving> {
        let (stop_tick, tick_stops) = oneshot::channel();
        let (stop_admin, admin_stops) = oneshot::channel();
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let admin = tokio::spawn(admin::serve(listener, self.server.clone(), admin_stops));
        let tick = tokio::spawn(async move {
            let Ticking { tick, asks, changes } = &mut ticking;
            tick.run(asks, changes, tick_stops).await;
            ticking
        });
        Ok(Serving { stop_tick, tick, stop_admin, admin })
    }

    async fn next(&mut self, stop: impl Future<Output = ()> + Unpin) -> Next {
        let mut wishes = Wishes {
            handle: &self.handle,
            life: &self.life,
            drain: &self.drain,
            demands: &mut self.demands,
            stop_at: self.stop_at,
        };
        let next = tokio::select! {
            () = self.signals.wait(stop, &self.server.desk) => Next::End,
            () = wishes.grant() => Next::End,
            heir = knocked(self.doorstep.as_ref(), &self.handle, &self.listener) => Next::Heir(heir),
        };
        self.stop_at = wishes.stop_at;
        next
    }

    async fn end(&mut self, serving: Serving) {
        self.life.send_replace(Life::Draining);
        let drain = *self.drain.borrow();
        tokio::select! {
            () = drained(&self.handle, drain) => {}
            () = self.signals.again() => tracing::warn!("stopped while requests were under way"),
        }
        // The tick may only be gone already if it panicked, and then that was told.
        let _ = serving.stop_tick.send(());
        let _ = serving.tick.await;
        admin::metrics::history::leave(&self.server).await;
        self.server.outward.settle(LETTERS).await;
        serving.admin.abort();
    }

    /// Gives everything to a successor, or has everything back.
    async fn hand_over(&mut self, serving: Serving, heir: Heir) -> Result<Draining, Ticking> {
        // While the judge still looks; its rest is short.
        admin::metrics::history::leave(&self.server).await;
        // Whoever asks the admin API from here on asks the successor.
        let _ = serving.stop_admin.send(());
        let _ = serving.stop_tick.send(());
        let mut ticking = serving.tick.await.expect("the tick does not panic");
        let pid = heir.pid;
        match succession::bequeath(&mut ticking.tick, heir).await {
            Ok(draining) => {
                tracing::info!(pid, "handed over to a successor");
                if let Some(pid) = pid {
                    systemd::main_pid(pid);
                }
                self.doorstep = None;
                self.server.facts.keeper.close();
                Ok(draining)
            }
            Err(cause) => {
                tracing::error!(%cause, "the successor does not take over, serving on");
                Err(ticking)
            }
        }
    }

    /// Lets requests end while a successor serves, telling it what they count.
    async fn see_out(&mut self, draining: Draining) {
        self.life.send_replace(Life::Draining);
        let timeout = self.drain.borrow().timeout;
        tokio::select! {
            () = succession::see_out(&self.handle, draining, timeout, self.following.take()) => {}
            () = self.signals.again() => return tracing::warn!("stopped while requests were under way"),
        }
        self.server.outward.settle(LETTERS).await;
    }
}

/// A successor that has shown that it can read its configuration.
async fn knocked(doorstep: Option<&Doorstep>, handle: &Handle, admin: &std::net::TcpListener) -> Heir {
    let Some(doorstep) = doorstep else { return std::future::pending().await };
    loop {
        let heir = doorstep.next().await;
        let prepared = match (handle.hand_over(), admin.try_clone()) {
            (Ok(sockets), Ok(admin)) => heir.prepare(sockets, admin).await,
            (Err(cause), _) | (_, Err(cause)) => Err(cause),
        };
        match prepared {
            Ok(heir) => return heir,
            Err(cause) => tracing::error!(%cause, "the successor does not start, serving on"),
        }
    }
}

/// Whoever sends us traffic first has time to hear that we are not ready.
async fn drained(handle: &Handle, drain: Drain) {
    if !drain.delay.is_zero() {
        tracing::info!(delay = ?drain.delay, "about to drain; connections end with their next answer");
        handle.farewell();
        tokio::time::sleep(drain.delay).await;
    }
    tracing::info!(timeout = ?drain.timeout, "draining");
    handle.drain(drain.timeout, Pace::Hurried).await;
}
