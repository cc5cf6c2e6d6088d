//! Webhooks at work: one task follows what the rollouts tell, and for each rollout
//! and type of question another asks.
//!
//! They know a rollout only by what everybody can see of it, and what they hear goes
//! to the tick as a word among its evidence. Receivers may hang or die: the words
//! then do not come, nothing rises, and the judge goes on as if nobody were asked.

mod inquiry;
mod notice;
mod payload;
mod question;
mod standing;
pub mod gates;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use gates::Gates;
pub use notice::anew;

use crate::clock::{Clock, Moment};
use crate::config::Loaded;
use crate::courier::Courier;
use crate::events::{Since, Subscription, Told};
use crate::outside::hook::{Hook, HookType};
use crate::rollout::Spec;
use crate::tick::ask::{Ask, Desk};
use inquiry::Inquiry;
use question::Asking;
use standing::Standing;

/// Questions that are asked while a rollout stands somewhere.
const ASKED: [HookType; 6] = [
    HookType::ConfirmRollout,
    HookType::PreRollout,
    HookType::Rollout,
    HookType::ConfirmTrafficIncrease,
    HookType::ConfirmPromotion,
    HookType::Rollback,
];

pub struct Hooks {
    pub desk: Desk,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub gates: Gates,
    pub courier: Courier,
}

/// A rollout that has webhooks, or whose judge looks at others' numbers, and the
/// tasks that ask for it.
struct Followed {
    spec: Spec,
    release: String,
    standing: watch::Sender<Standing>,
    inquiries: Vec<JoinHandle<()>>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        for inquiry in &self.inquiries {
            inquiry.abort();
        }
    }
}

impl Hooks {
    /// Until the tick is gone.
    pub async fn run(mut self) {
        let mut followed = BTreeMap::new();
        // All that this process has told, also before we came to listen.
        let (mut last, mut is_first) = (Since::Start, true);
        loop {
            let asked = self.desk.ask(|reply| Ask::Subscribe { last, reply }).await;
            let Ok(subscription) = asked else { return };
            if std::mem::take(&mut is_first) {
                let gates = self.gates.clone();
                // It blocks, and others are asked on this thread.
                let _ = tokio::task::spawn_blocking(move || gates.read_again()).await;
            }
            self.adopt(&mut followed).await;
            if !self.follow(subscription, &mut followed, &mut last).await {
                return;
            }
        }
    }

    /// False when there is nothing more to follow; true when too much was told at
    /// once, and what was missed has to be asked for.
    async fn follow(
        &mut self,
        subscription: Subscription,
        followed: &mut BTreeMap<String, Followed>,
        last: &mut Since,
    ) -> bool {
        let Subscription { missed, mut coming } = subscription;
        for told in missed {
            *last = Since::After(told.id);
            self.hear(&told, followed).await;
        }
        loop {
            tokio::select! {
                told = coming.recv() => match told {
                    Ok(told) => {
                        *last = Since::After(told.id);
                        self.hear(&told, followed).await;
                    }
                    Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                },
                changed = self.loaded.changed() => match changed {
                    Ok(()) => self.adopt(followed).await,
                    Err(_) => return false,
                },
            }
        }
    }

    async fn hear(&self, told: &Told, followed: &BTreeMap<String, Followed>) {
        let Some(of) = followed.get(&told.event.rollout) else { return };
        if let Some(standing) = self.standing(&told.event.rollout).await {
            notice::tell(&self.courier, &of.spec, &of.release, &standing, told);
            of.standing.send_replace(standing);
        }
    }

    /// Follows the rollouts of the configuration in force; those that are as they
    /// were are not disturbed.
    async fn adopt(&mut self, followed: &mut BTreeMap<String, Followed>) {
        let loaded = Arc::clone(&self.loaded.borrow_and_update());
        let mut kept = std::mem::take(followed);
        let asks = |spec: &&Spec| !spec.hooks.is_empty() || !spec.analysis.questions.is_empty();
        for spec in loaded.rollouts.iter().filter(asks) {
            let release = payload::checksum(&loaded.model, spec);
            let before = kept.remove(&spec.name);
            let same = before.filter(|before| before.spec == *spec && before.release == release);
            let of = same.unwrap_or_else(|| self.begin(spec, &release));
            if let Some(standing) = self.standing(&spec.name).await {
                of.standing.send_replace(standing);
            }
            followed.insert(spec.name.clone(), of);
        }
    }

    fn begin(&self, spec: &Spec, release: &str) -> Followed {
        let (standing, standings) = watch::channel(Standing::default());
        let inquiry = |hooks: Vec<Hook>| {
            let on = hooks.first()?.on;
            let inquiry = Inquiry {
                desk: self.desk.clone(),
                gates: self.gates.clone(),
                loaded: self.loaded.clone(),
                clock: Clock::start(Moment::default()),
                ledger: self.courier.ledger().clone(),
                standings: standings.clone(),
                rollout: spec.name.clone(),
                release: release.to_owned(),
                on,
                hooks,
            };
            Some(tokio::spawn(inquiry.run()))
        };
        let mut inquiries: Vec<JoinHandle<()>> =
            ASKED.into_iter().flat_map(|on| together(spec, on)).filter_map(inquiry).collect();
        for question in &spec.analysis.questions {
            for arm in &question.arms {
                let asking = Asking {
                    desk: self.desk.clone(),
                    loaded: self.loaded.clone(),
                    clock: Clock::start(Moment::default()),
                    ledger: self.courier.ledger().clone(),
                    standings: standings.clone(),
                    rollout: spec.name.clone(),
                    question: question.clone(),
                    arm: *arm,
                };
                inquiries.push(tokio::spawn(asking.run()));
            }
        }
        Followed { spec: spec.clone(), release: release.to_owned(), standing, inquiries }
    }

    async fn standing(&self, rollout: &str) -> Option<Standing> {
        let name = rollout.to_owned();
        let detail = self.desk.ask(|reply| Ask::Rollout { name, reply }).await.ok()?.ok()?;
        Some(Standing::of(&detail))
    }
}

/// Those that have to agree are one question. Of those that may roll back one is
/// enough, so each is asked by itself and waits for no other.
fn together(spec: &Spec, on: HookType) -> Vec<Vec<Hook>> {
    let hooks: Vec<Hook> = spec.hooks.iter().filter(|hook| hook.on == on).cloned().collect();
    match on {
        HookType::Rollback => hooks.into_iter().map(|hook| vec![hook]).collect(),
        _ => vec![hooks],
    }
}
