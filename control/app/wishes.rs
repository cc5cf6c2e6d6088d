//! What operators and the system ask of the process while it lives on.

use std::future::{Future, pending};

use serin_proxy::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::admin::{Demand, Life};
use crate::config::Drain;
use crate::systemd;
use crate::tick::ask::{Ask, Desk};

use super::succession;

pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    successor: tokio::signal::unix::Signal,
}

/// What operators ask of the process while it lives on.
pub struct Wishes<'a> {
    pub handle: &'a Handle,
    pub life: &'a watch::Sender<Life>,
    pub drain: &'a watch::Receiver<Drain>,
    pub demands: &'a mut mpsc::Receiver<Demand>,
    pub stop_at: Option<Instant>,
}

impl Wishes<'_> {
    /// Never returns: no wish ends the process.
    pub async fn grant(&mut self) {
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
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            successor: signal(SignalKind::user_defined2())?,
        })
    }

    /// Returns when it is time to stop; until then a hangup reads the file again
    /// and the second user signal starts a successor.
    pub async fn wait(&mut self, mut stop: impl Future<Output = ()> + Unpin, desk: &Desk) {
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    systemd::reloading();
                    // The tick logs how it went, and it only stops after us.
                    let _ = desk.ask(|reply| Ask::Reload { reply }).await;
                    systemd::ready();
                }
                _ = self.successor.recv() => succession::begin(),
            }
        }
    }

    pub async fn again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
