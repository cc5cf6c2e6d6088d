//! What others may ask of the tick: a message with a place for the answer.
//!
//! The tick owns everything, so nobody else needs a lock; a [`Desk`] is the only
//! way in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serin_proxy::Reading;
use serin_proxy::reading::HealthReading;
use tokio::sync::{mpsc, oneshot};

use super::view::{Detail, Dump, MetricsView, Reload, SplitView};
use crate::events::{Filter, Since, Subscription, Told};
use crate::judge::samples::Outside;
use crate::outside::hook::Word;
use crate::rollout::Command;

/// Questions that may wait; past it those who ask wait.
const WAITING: usize = 64;

pub enum Ask {
    Command {
        rollout: String,
        command: Command,
        reply: oneshot::Sender<Result<Detail, Refusal>>,
    },
    /// Percent by version; versions that are not named get none.
    Weights {
        split: String,
        shares: BTreeMap<String, f64>,
        reply: oneshot::Sender<Result<SplitView, Refusal>>,
    },
    Reload {
        reply: oneshot::Sender<Reload>,
    },
    Rollouts {
        reply: oneshot::Sender<Vec<Detail>>,
    },
    Rollout {
        name: String,
        reply: oneshot::Sender<Result<Detail, Refusal>>,
    },
    Splits {
        reply: oneshot::Sender<Vec<SplitView>>,
    },
    Metrics {
        reply: oneshot::Sender<(Reading, MetricsView)>,
    },
    Health {
        reply: oneshot::Sender<Vec<Arc<HealthReading>>>,
    },
    Dump {
        reply: oneshot::Sender<Dump>,
    },
    /// What webhooks have answered to a question about a rollout.
    Word {
        rollout: String,
        word: Word,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// What somebody else has said of a rollout, who was asked for it so long ago.
    Figure {
        rollout: String,
        figure: Outside,
        took: Duration,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// What was told, as far as it is kept, oldest first.
    History {
        filter: Filter,
        reply: oneshot::Sender<Vec<Arc<Told>>>,
    },
    Subscribe {
        last: Since,
        reply: oneshot::Sender<Subscription>,
    },
}

/// Why the tick did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no {what} {name:?}")]
    Unknown { what: &'static str, name: String },
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// It makes no sense in any state.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("serin is stopping")]
    Stopping,
}

/// A way to ask. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    asks: mpsc::Sender<Ask>,
}

impl Desk {
    pub fn new() -> (Desk, mpsc::Receiver<Ask>) {
        let (asks, received) = mpsc::channel(WAITING);
        (Desk { asks }, received)
    }

    pub async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)
    }

    /// For a thread that is none of the runtime's.
    pub fn ask_blocking<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.blocking_send(ask(reply)).map_err(|_| Refusal::Stopping)?;
        answer.blocking_recv().map_err(|_| Refusal::Stopping)
    }

    pub async fn command(&self, rollout: String, command: Command) -> Result<Detail, Refusal> {
        self.ask(|reply| Ask::Command { rollout, command, reply }).await?
    }
}
