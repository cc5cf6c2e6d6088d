//! Alerts at work: every event that a rollout tells becomes a message, and goes to
//! those whom the routes name.
//!
//! It hears what everybody can hear and asks what everybody can see; the courier
//! does the sending. What is said is in `message`, how in `format`, to whom in
//! `route`, how often in `limit`, and what is said again in `open`.

pub mod format;
mod limit;
pub mod message;
mod open;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use utoipa::ToSchema;

use crate::clock::{Clock, Moment};
use crate::config::Loaded;
use crate::courier::{Answer, Courier, Dead, Letter, Taken, lane};
use crate::events::{Filter, Since, Subscription, Told};
use crate::outside::alert::{Alerts, Kind, Receiver, Severity};
use crate::outside::hook::HookType;
use crate::rollout::EventKind;
use crate::tick::ask::{Ask, Desk};
use crate::tick::view::Detail;
use limit::Limits;
use message::{Message, Page};
use open::Open;

/// So often it is looked for what is to be said again.
const LOOK: Duration = Duration::from_secs(1);
/// What the queue of a receiver is called, before its name.
const LANE: &str = "receiver ";

pub struct Alerter {
    pub desk: Desk,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub courier: Courier,
    /// Where the admin API is, for links.
    pub admin: String,
    pub clock: Clock,
}

/// How one receiver took a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    pub receiver: String,
    pub delivered: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Alerter {
    /// Until the tick is gone.
    pub async fn run(mut self) {
        // All that this process has told, also before we came to listen.
        let (mut last, mut limits) = (Since::Start, Limits::default());
        let mut open = self.left_open().await;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = self.desk.ask(|reply| Ask::Subscribe { last, reply }).await;
            let Ok(Subscription { missed, mut coming }) = asked else { return };
            for told in missed {
                last = Since::After(told.id);
                self.hear(&told, &mut limits, &mut open).await;
            }
            loop {
                let told = tokio::select! {
                    told = coming.recv() => told,
                    _ = looks.tick(), if !open.is_empty() => {
                        self.say_again(&mut open);
                        continue;
                    }
                };
                match told {
                    Ok(told) => {
                        last = Since::After(told.id);
                        self.hear(&told, &mut limits, &mut open).await;
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    async fn hear(&mut self, told: &Told, limits: &mut Limits, open: &mut Open) {
        let loaded = Arc::clone(&self.loaded.borrow_and_update());
        let Some(message) = self.message(&loaded, told).await else { return };
        for receiver in route::receivers(&loaded.alerts, &message) {
            open.note(receiver, &message);
            if let Some(left_out) = limits.admit(receiver, &message) {
                self.courier.send(letter(receiver, Message { left_out, ..message.clone() }));
            }
        }
    }

    /// What is to be said of it, if anything.
    async fn message(&self, loaded: &Loaded, told: &Told) -> Option<Message> {
        let alerts = &loaded.alerts;
        if alerts.routes.is_empty() {
            return None;
        }
        let name = told.event.rollout.clone();
        let detail = self.desk.ask(|reply| Ask::Rollout { name, reply }).await.ok()?.ok()?;
        if told.event.kind == EventKind::Waiting && is_muted(loaded, &detail) {
            return None;
        }
        let spec = loaded.rollouts.iter().find(|spec| spec.name == told.event.rollout);
        let about = spec.map(|spec| spec.about.clone()).unwrap_or_default();
        let environment = about.environment.as_deref().or(alerts.environment.as_deref());
        let page =
            Page { link: alerts.link.as_deref(), admin: &self.admin, environment, labels: &about.labels };
        Some(Message::of(told, &detail, &page))
    }

    /// What the process before us has left firing, by what is known of the past.
    async fn left_open(&self) -> Open {
        let (mut open, filter) = (Open::default(), Filter::default());
        let Ok(told) = self.desk.ask(|reply| Ask::History { filter, reply }).await else { return open };
        let loaded = Arc::clone(&self.loaded.borrow());
        if loaded.alerts.receivers.iter().all(|receiver| receiver.kind != Kind::Alertmanager) {
            return open;
        }
        let mut latest = BTreeMap::new();
        for told in told.iter().filter(|told| message::says_how_it_stands(told.event.kind)) {
            latest.insert(told.event.rollout.as_str(), told);
        }
        for told in latest.into_values() {
            let Some(message) = self.message(&loaded, told).await else { continue };
            route::receivers(&loaded.alerts, &message).iter().for_each(|to| open.note(to, &message));
        }
        open
    }

    fn say_again(&self, open: &mut Open) {
        let loaded = Arc::clone(&self.loaded.borrow());
        let is_known = |rollout: &str| loaded.rollouts.iter().any(|spec| spec.name == rollout);
        for (receiver, message) in open.due(self.clock.now(), &loaded.alerts.receivers, is_known) {
            let letter = letter(receiver, message.clone());
            self.courier.send(match message.again {
                Some(_) => Letter { retries: 0, severity: Severity::Info, is_repeated: true, ..letter },
                None => letter,
            });
        }
    }
}

/// Everybody that it still waits for has asked not to be told about. Where it waits for nobody
/// any more, there is nothing left to approve.
fn is_muted(loaded: &Loaded, detail: &Detail) -> bool {
    let waiting: &[HookType] = &detail.status.waiting;
    let spec = loaded.rollouts.iter().find(|spec| spec.name == detail.status.name);
    let mut awaited = spec.into_iter().flat_map(|spec| &spec.hooks).filter(|hook| waiting.contains(&hook.on));
    awaited.all(|hook| hook.mute_alert)
}

fn letter(receiver: &Receiver, message: Message) -> Letter {
    let about = serde_json::to_value(&message).expect("plain data with text keys");
    let (lane, retries) = (format!("{LANE}{}", receiver.name), receiver.retries);
    let (taken, severity) = (taken(receiver.kind), message.severity);
    let state_of = receiver.kind.resolves().then(|| message.rollout.clone());
    let receiver = receiver.clone();
    Letter {
        lane,
        about,
        write: Arc::new(move || format::call(&receiver, &message)),
        retries,
        taken,
        severity,
        state_of,
        is_repeated: false,
    }
}

/// One that could not be delivered, and is known by what it is about.
pub fn anew(loaded: &Loaded, dead: &Dead) -> Option<Letter> {
    let receiver = loaded.alerts.receiver(dead.receiver.strip_prefix(LANE)?)?;
    let message = serde_json::from_value(dead.about.clone()).ok()?;
    Some(letter(receiver, message))
}

fn taken(kind: Kind) -> Taken {
    match kind {
        Kind::Slack => |answer| is_good(answer) && !says_no(answer),
        _ => is_good,
    }
}

fn is_good(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// Slack's API has 200 for what it refuses, too.
fn says_no(answer: &Answer) -> bool {
    let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    said.is_some_and(|said| said["ok"] == false)
}

/// Sends a test to one receiver, or to all, and waits for what they say.
pub async fn test(
    alerts: &Alerts,
    name: Option<&str>,
    severity: Severity,
    admin: &str,
    now: Moment,
) -> Vec<Tested> {
    let (link, environment) = (alerts.link.as_deref(), alerts.environment.as_deref());
    let page = Page { link, admin, environment, labels: &BTreeMap::new() };
    let message = Message::test(severity, &page, now);
    let wanted = alerts.receivers.iter().filter(|receiver| name.is_none_or(|name| name == receiver.name));
    let tests = wanted.map(|receiver| {
        let message = message.clone();
        async move {
            let outcome = match format::call(receiver, &message) {
                // Who waits for a test wants to hear of the first failure.
                Ok(call) => {
                    lane::deliver(&call, 0, taken(receiver.kind)).await.map_err(|failure| failure.cause)
                }
                Err(cause) => Err(cause),
            };
            let error = outcome.err();
            Tested { receiver: receiver.name.clone(), delivered: error.is_none(), error }
        }
    });
    futures_util::future::join_all(tests).await
}

/// What is said of the receivers: their types by name.
pub fn kinds(alerts: &Alerts) -> BTreeMap<&str, serde_json::Value> {
    let kind = |receiver: &Receiver| serde_json::to_value(receiver.kind).expect("a word");
    alerts.receivers.iter().map(|receiver| (receiver.name.as_str(), kind(receiver))).collect()
}
