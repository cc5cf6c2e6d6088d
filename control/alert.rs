//! Alerts at work: every event that a rollout tells becomes a message, and goes to
//! those whom the routes name.
//!
//! It hears what everybody can hear and asks what everybody can see; the courier
//! does the sending. What is said is in `message`, how in `format`, to whom in
//! `route`, and how often in `limit`.

pub mod format;
mod limit;
pub mod message;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::clock::Moment;
use crate::config::Loaded;
use crate::courier::{Courier, Dead, Letter, lane};
use crate::events::{Subscription, Told};
use crate::outside::alert::{Alerts, Receiver, Severity};
use crate::outside::hook::HookType;
use crate::rollout::EventKind;
use crate::tick::ask::{Ask, Desk};
use crate::tick::view::Detail;
use limit::Limits;
use message::{Message, Page};

/// What the queue of a receiver is called, before its name.
const LANE: &str = "receiver ";

pub struct Alerter {
    pub desk: Desk,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub courier: Courier,
    /// Where the admin API is, for links.
    pub admin: String,
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
        let (mut last, mut limits) = (Some(0), Limits::default());
        loop {
            let asked = self.desk.ask(|reply| Ask::Subscribe { last, reply }).await;
            let Ok(Subscription { missed, mut coming }) = asked else { return };
            for told in missed {
                last = Some(told.id);
                self.hear(&told, &mut limits).await;
            }
            loop {
                match coming.recv().await {
                    Ok(told) => {
                        last = Some(told.id);
                        self.hear(&told, &mut limits).await;
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    async fn hear(&mut self, told: &Told, limits: &mut Limits) {
        let loaded = Arc::clone(&self.loaded.borrow_and_update());
        let alerts = &loaded.alerts;
        if alerts.routes.is_empty() {
            return;
        }
        let name = told.event.rollout.clone();
        let Ok(Ok(detail)) = self.desk.ask(|reply| Ask::Rollout { name, reply }).await else { return };
        if told.event.kind == EventKind::Waiting && is_muted(&loaded, &detail) {
            return;
        }
        let page = Page {
            link: alerts.link.as_deref(),
            admin: &self.admin,
            environment: alerts.environment.as_deref(),
        };
        let message = Message::of(told, &detail, &page);
        for receiver in route::receivers(alerts, &message) {
            if let Some(left_out) = limits.admit(receiver, &message) {
                self.courier.send(letter(receiver, Message { left_out, ..message.clone() }));
            }
        }
    }
}

/// Everybody that it waits for has asked not to be told about.
fn is_muted(loaded: &Loaded, detail: &Detail) -> bool {
    let waiting: &[HookType] = &detail.status.waiting;
    let spec = loaded.rollouts.iter().find(|spec| spec.name == detail.status.name);
    let mut awaited =
        spec.into_iter().flat_map(|spec| &spec.hooks).filter(|hook| waiting.contains(&hook.on)).peekable();
    awaited.peek().is_some() && awaited.all(|hook| hook.mute_alert)
}

fn letter(receiver: &Receiver, message: Message) -> Letter {
    let about = serde_json::to_value(&message).expect("plain data with text keys");
    let (lane, retries) = (format!("{LANE}{}", receiver.name), receiver.retries);
    let receiver = receiver.clone();
    Letter {
        lane,
        about,
        write: Arc::new(move || format::call(&receiver, &message)),
        retries,
        taken: is_taken,
    }
}

/// One that could not be delivered, and is known by what it is about.
pub fn anew(loaded: &Loaded, dead: &Dead) -> Option<Letter> {
    let receiver = loaded.alerts.receiver(dead.receiver.strip_prefix(LANE)?)?;
    let message = serde_json::from_value(dead.about.clone()).ok()?;
    Some(letter(receiver, message))
}

fn is_taken(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Sends a test to one receiver, or to all, and waits for what they say.
pub async fn test(
    alerts: &Alerts,
    name: Option<&str>,
    severity: Severity,
    admin: &str,
    now: Moment,
) -> Vec<Tested> {
    let page = Page { link: alerts.link.as_deref(), admin, environment: alerts.environment.as_deref() };
    let message = Message::test(severity, &page, now);
    let wanted = alerts.receivers.iter().filter(|receiver| name.is_none_or(|name| name == receiver.name));
    let tests = wanted.map(|receiver| {
        let message = message.clone();
        async move {
            let outcome = match format::call(receiver, &message) {
                // Who waits for a test wants to hear of the first failure.
                Ok(call) => lane::deliver(&call, 0, is_taken).await.map_err(|failure| failure.cause),
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
