//! One question about one rollout, asked of all its webhooks of a type for as long
//! as it matters. All have to agree; the first that does not ends the round.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::gates::{self, Gates};
use super::payload::{self, Payload};
use super::standing::Standing;
use crate::clock::Clock;
use crate::config::Loaded;
use crate::courier::lane;
use crate::courier::ledger::Ledger;
use crate::outside::hook::{Answer, Hook, HookType, Where, Word};
use crate::outside::provider::Query;
use crate::provider::{self, Names, Sample};
use crate::tick::ask::{Ask, Desk};

pub struct Inquiry {
    pub desk: Desk,
    pub gates: Gates,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub clock: Clock,
    /// Where it is written down what came of each question.
    pub ledger: Ledger,
    pub standings: watch::Receiver<Standing>,
    pub rollout: String,
    pub release: String,
    pub on: HookType,
    pub hooks: Vec<Hook>,
}

/// What of a standing makes it another question.
type Question = (bool, usize);

impl Inquiry {
    /// Until the rollout is no longer followed.
    pub async fn run(mut self) {
        loop {
            let standing = self.standings.borrow_and_update().clone();
            let question = self.question(&standing);
            if !question.0 {
                if self.standings.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut standings = self.standings.clone();
            let opened = self.gates.watch();
            let on = self.on;
            let gone = standings.wait_for(|now| (now.asks(on), now.step) != question);
            tokio::select! {
                // A question that is no longer asked is not answered either.
                changed = gone => if changed.is_err() { return },
                () = self.round(&standing, opened) => {}
            }
        }
    }

    fn question(&self, standing: &Standing) -> Question {
        (standing.asks(self.on), standing.step)
    }

    /// Asks once, says what came of it, and waits until it is time to ask again.
    async fn round(&self, standing: &Standing, mut opened: watch::Receiver<u64>) {
        // That there is no wish to roll back is no news.
        let news = |said: &(Answer, String)| self.on != HookType::Rollback || said.0 == Answer::Open;
        if let Some((answer, why)) = self.ask_all(standing).await.filter(news) {
            let word = Word { on: self.on, step: standing.step, answer, why };
            let rollout = self.rollout.clone();
            // A tick that is gone needs no words.
            let _ = self.desk.ask(|reply| Ask::Word { rollout, word, reply }).await;
        }
        let interval = self.hooks.iter().map(|hook| hook.interval).min().unwrap_or(Duration::from_secs(10));
        let has_gate = self.hooks.iter().any(|hook| hook.to == Where::Gate);
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = opened.changed(), if has_gate => {}
        }
    }

    /// Nothing where somebody has said neither yes nor no.
    async fn ask_all(&self, standing: &Standing) -> Option<(Answer, String)> {
        let mut agreed = Vec::new();
        for hook in &self.hooks {
            let said = self.ask(hook, standing).await;
            if self.on == HookType::Rollback {
                // Of those that may roll back one is enough, and no word is no wish.
                if said == Some(Ok(())) {
                    return Some((Answer::Open, format!("rollback {} agreed", hook.name)));
                }
                continue;
            }
            match said? {
                Ok(()) => agreed.push(hook.name.as_str()),
                Err(cause) => {
                    return Some((Answer::Closed, format!("{} {}: {cause}", self.on.name(), hook.name)));
                }
            }
        }
        let answer = if agreed.is_empty() { Answer::Closed } else { Answer::Open };
        Some((answer, format!("{} {} agreed", self.on.name(), agreed.join(", "))))
    }

    async fn ask(&self, hook: &Hook, standing: &Standing) -> Option<Result<(), String>> {
        match &hook.to {
            Where::Gate => {
                let kind =
                    if self.on == HookType::Rollback { gates::Kind::Rollback } else { gates::Kind::Gate };
                let is_open = self.gates.is_open(kind, &self.rollout, &hook.namespace);
                Some(if is_open { Ok(()) } else { Err("the gate is closed".to_owned()) })
            }
            Where::Query(query) => self.query(hook, query).await,
            Where::Url(_) => Some(self.call(hook, standing).await),
        }
    }

    async fn query(&self, hook: &Hook, query: &Query) -> Option<Result<(), String>> {
        let loaded = Arc::clone(&self.loaded.borrow());
        let known = loaded.providers.iter().find(|provider| provider.name == query.provider);
        let sample = match known {
            Some(provider) => {
                let spec = loaded.rollouts.iter().find(|spec| spec.name == self.rollout);
                let split = spec.map(|spec| spec.split.as_str()).unwrap_or_default();
                let mut names = Names::of(&self.rollout, &hook.namespace, split, &hook.metadata);
                if let Some(spec) = spec {
                    (names.primary, names.canary) = (spec.primary.clone(), spec.canary.clone());
                }
                let (begun, account) = (Instant::now(), format!("provider {}", provider.name));
                let sample = provider::ask(provider, query, &names, self.clock.now()).await;
                let is_answered = !matches!(sample, Sample::Error(_));
                self.ledger.ended(&account, is_answered, 1, begun.elapsed());
                sample
            }
            None => Sample::Error(format!("there is no provider {:?}", query.provider)),
        };
        let judged = provider::judge(query, &sample);
        tracing::debug!(rollout = self.rollout, webhook = hook.name, ?sample, ?judged, "asked for a number");
        judged
    }

    async fn call(&self, hook: &Hook, standing: &Standing) -> Result<(), String> {
        let payload = Payload {
            name: self.rollout.clone(),
            namespace: hook.namespace.clone(),
            phase: standing.phase_name(),
            checksum: self.release.clone(),
            metadata: hook.metadata.clone(),
        };
        let call = payload::call(hook, &payload)?;
        let (begun, account) = (Instant::now(), format!("webhook {} of {}", hook.name, self.rollout));
        let delivered = lane::attempts(&call, hook.retries, payload::is_yes).await;
        let attempts = delivered.as_ref().map_or_else(|failure| failure.attempts, |(_, attempts)| *attempts);
        self.ledger.ended(&account, delivered.is_ok(), attempts, begun.elapsed());
        delivered.map(|_| ()).map_err(|failure| match failure.attempts {
            0 | 1 => failure.cause,
            attempts => format!("{} (given up after {attempts} attempts)", failure.cause),
        })
    }
}
