//! The load of one rollout: when the next request is due, how many there may be at
//! once, and that all of them end when they are no longer wanted.

use std::time::Duration;

use serin_proxy::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::line::{Line, Request, requests};
use crate::outside::load::Load;

/// How exact the pace is.
const BEAT: Duration = Duration::from_millis(10);
/// What was held up is not made up for beyond this.
const BURST: f64 = 0.1;
/// Requests that are under way when no more are wanted have so long to end.
const GRACE: Duration = Duration::from_secs(1);
/// How often it is told that requests are not answered.
const TELL: Duration = Duration::from_secs(10);

/// What the rollout and its users leave to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Orders {
    pub sends: bool,
    pub per_second: f64,
}

pub struct Session {
    rollout: String,
    load: Load,
    handle: Handle,
    orders: watch::Receiver<Orders>,
    requests: Vec<Request>,
    next: usize,
    due: f64,
    last: Instant,
    idle: Vec<Line>,
    running: JoinSet<Result<Option<Line>, String>>,
    told: Option<Instant>,
}

impl Session {
    pub fn new(rollout: &str, load: Load, handle: Handle, orders: watch::Receiver<Orders>) -> Session {
        Session {
            rollout: rollout.to_owned(),
            load,
            handle,
            orders,
            requests: Vec::new(),
            next: 0,
            due: 0.0,
            last: Instant::now(),
            idle: Vec::new(),
            running: JoinSet::new(),
            told: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let begins = self.orders.wait_for(|orders| orders.sends).await.is_ok();
            if !begins {
                return;
            }
            match requests(&self.load) {
                Ok(requests) => self.requests = requests,
                Err(cause) => {
                    tracing::error!(rollout = self.rollout, cause, "no load is sent");
                    if self.orders.wait_for(|orders| !orders.sends).await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            tracing::info!(rollout = self.rollout, per_second = self.load.per_second, "load begins");
            if !self.send().await {
                return;
            }
            self.come_to_an_end().await;
            tracing::info!(rollout = self.rollout, "load has ended");
        }
    }

    /// What is under way may end. Who is still asked then hears that nobody waits for the answer.
    async fn come_to_an_end(&mut self) {
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            self.running.shutdown().await;
        }
        self.idle.clear();
    }

    /// Until it is no longer wanted; false when there is nobody to want it.
    async fn send(&mut self) -> bool {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        (self.due, self.last) = (0.0, Instant::now());
        loop {
            tokio::select! {
                biased;
                changed = self.orders.changed() => match changed {
                    Ok(()) if self.orders.borrow_and_update().sends => {}
                    Ok(()) => return true,
                    Err(_) => return false,
                },
                Some(ended) = self.running.join_next() => self.ended(ended),
                _ = beats.tick() => self.beat(),
            }
        }
    }

    fn beat(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64();
        if self.handle.is_pressed() {
            // Those under way, too, are somebody else's room.
            self.running.abort_all();
            self.idle.clear();
            self.due = 0.0;
            return;
        }
        let per_second = self.orders.borrow().per_second;
        self.due = (self.due + passed * per_second).min((per_second * BURST).max(1.0));
        while self.due >= 1.0 && self.running.len() < self.load.most_at_once {
            self.due -= 1.0;
            let request = self.requests[self.next % self.requests.len()].clone();
            self.next = self.next.wrapping_add(1);
            let line = self.idle.pop();
            let (handle, load) = (self.handle.clone(), self.load.clone());
            self.running.spawn(async move { request.send(line, &handle, &load).await });
        }
    }

    fn ended(&mut self, ended: Result<Result<Option<Line>, String>, tokio::task::JoinError>) {
        match ended {
            Ok(Ok(line)) => self.idle.extend(line),
            Ok(Err(cause)) => {
                if self.told.is_none_or(|told| told.elapsed() >= TELL) {
                    self.told = Some(Instant::now());
                    tracing::warn!(rollout = self.rollout, cause, "a request of our own load is lost");
                }
            }
            // Broken off by ourselves.
            Err(_) => {}
        }
    }
}
