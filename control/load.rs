//! Load of our own, so that a service without traffic has something to be judged by.
//!
//! It is a client like any other and must not know what the judge makes of it: its
//! requests come in by a listener, are routed, tossed for, retried and counted as
//! evidence like a user's, and counted for the metrics apart from them. It sends
//! only what users leave missing, and never while there is too much of anything.
//! On a thread of its own, so that nothing waits for it.

mod line;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serin_proxy::Handle;
use serin_proxy::reading::Sent;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::Life;
use crate::config::Loaded;
use crate::events::Since;
use crate::outside::load::{During, Load};
use crate::rollout::Phase;
use crate::tick::ask::{Ask, Desk};
use session::{Orders, Session};

/// How often users are counted, and rollouts looked at even if nothing was told.
const LOOK: Duration = Duration::from_secs(1);

pub struct Loads {
    pub desk: Desk,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub handle: Handle,
    pub life: watch::Receiver<Life>,
}

/// A rollout that has load, and the task that sends it.
struct Followed {
    load: Load,
    service: String,
    orders: watch::Sender<Orders>,
    /// What its service's users had asked at the last look.
    users: Option<u64>,
    session: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.session.abort();
    }
}

impl Loads {
    /// Ends with the tick that it asks, or with the process.
    pub fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("serin-load".to_owned());
        thread.spawn(move || runtime.block_on(self.run())).map(drop)
    }

    async fn run(mut self) {
        let mut followed = BTreeMap::new();
        loop {
            // Who has nothing to send does not look either.
            self.adopt(&mut followed);
            if followed.is_empty() {
                match self.loaded.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            if !self.follow(&mut followed).await {
                return;
            }
        }
    }

    /// Until the configuration changes (true), or there is nobody to follow any more.
    async fn follow(&mut self, followed: &mut BTreeMap<String, Followed>) -> bool {
        let Ok(told) = self.desk.ask(|reply| Ask::Subscribe { last: Since::Now, reply }).await else {
            return false;
        };
        let mut coming = told.coming;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = coming.recv() => match told {
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return false,
                },
                _ = looks.tick() => self.count_users(followed),
                changed = self.life.changed() => if changed.is_err() { return false },
                changed = self.loaded.changed() => return changed.is_ok(),
            }
            if !self.look(followed).await {
                return false;
            }
        }
    }

    fn adopt(&mut self, followed: &mut BTreeMap<String, Followed>) {
        let loaded = Arc::clone(&self.loaded.borrow_and_update());
        let mut kept = std::mem::take(followed);
        for spec in &loaded.rollouts {
            let Some(load) = &spec.load else { continue };
            let split = loaded.model.splits.iter().find(|split| split.name == spec.split);
            let Some(service) = split.map(|split| split.service.clone()) else { continue };
            let before = kept.remove(&spec.name);
            let same = before.filter(|before| before.load == *load && before.service == service);
            let of = same.unwrap_or_else(|| self.begin(&spec.name, load.clone(), service));
            followed.insert(spec.name.clone(), of);
        }
    }

    fn begin(&self, rollout: &str, load: Load, service: String) -> Followed {
        let (orders, ordered) = watch::channel(Orders::default());
        let session = Session::new(rollout, load.clone(), self.handle.clone(), ordered);
        let session = tokio::spawn(session.run());
        Followed { load, service, orders, users: None, session }
    }

    /// Where the rollouts stand; false when the tick is gone.
    async fn look(&self, followed: &mut BTreeMap<String, Followed>) -> bool {
        let Ok(details) = self.desk.ask(|reply| Ask::Rollouts { reply }).await else { return false };
        let live = *self.life.borrow() == Life::Live;
        for detail in details {
            if let Some(of) = followed.get(&detail.status.name) {
                let sends = live && is_time(of.load.during, detail.status.phase);
                of.orders.send_if_modified(|orders| std::mem::replace(&mut orders.sends, sends) != sends);
            }
        }
        true
    }

    fn count_users(&self, followed: &mut BTreeMap<String, Followed>) {
        let versions = self.handle.used_versions();
        for of in followed.values_mut() {
            let by_users = versions
                .iter()
                .filter(|version| version.service == of.service && version.sent == Sent::ByUsers)
                .map(|version| version.counts.success + version.counts.failure + version.counts.uncounted);
            let now: u64 = by_users.sum();
            let before = of.users.replace(now);
            // Until users were counted twice nobody knows what they leave missing.
            let by_users = before.map(|before| now.saturating_sub(before) as f64 / LOOK.as_secs_f64());
            let missing = by_users.map_or(0.0, |by_users| (of.load.per_second - by_users).max(0.0));
            of.orders
                .send_if_modified(|orders| std::mem::replace(&mut orders.per_second, missing) != missing);
        }
    }
}

/// A suspicion needs requests, or it could be neither confirmed nor lifted.
fn is_time(during: During, phase: Phase) -> bool {
    match phase {
        Phase::Running | Phase::Suspended | Phase::Baking | Phase::Promoting => true,
        Phase::Paused | Phase::Held => during == During::Rollout,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::view::PHASES;

    #[test]
    fn load_is_sent_while_the_canary_is_judged_and_at_no_other_time() {
        let sends = |during| {
            let phases = PHASES;
            phases.into_iter().filter(|phase| is_time(during, *phase)).collect::<Vec<_>>()
        };
        let judged = [Phase::Running, Phase::Suspended, Phase::Baking, Phase::Promoting];
        assert_eq!(sends(During::Judged), judged);
        let rollout = sends(During::Rollout);
        assert_eq!(rollout.len(), judged.len() + 2, "{rollout:?}");
        assert!([Phase::Paused, Phase::Held].iter().all(|phase| rollout.contains(phase)));
    }
}
