//! One question about one rollout, asked of some of its webhooks for as long as it
//! matters. All have to agree; the first that does not ends the round. Where one of
//! its gates is turned meanwhile, the round begins anew.

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
    /// At least one.
    pub hooks: Vec<Hook>,
}

/// What of a standing makes it another question.
type Question = (bool, usize, bool);

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
            let turns = self.gates.watch();
            let gates = self.gates_now();
            let gone = standings.wait_for(|now| self.question(now) != question);
            let is_turned = tokio::select! {
                // A question that is no longer asked is not answered either.
                changed = gone => if changed.is_err() { return } else { false },
                () = self.turned(&gates, turns) => true,
                () = self.round(&standing, &gates) => false,
            };
            if is_turned {
                let why = "a gate was turned; it is asked anew".to_owned();
                self.say(&standing, Answer::Silent, why).await;
            }
        }
    }

    fn question(&self, standing: &Standing) -> Question {
        (standing.asks(self.on), standing.step, standing.opening)
    }

    /// For each webhook whether it is a gate that is open.
    fn gates_now(&self) -> Vec<bool> {
        let kind = if self.on == HookType::Rollback { gates::Kind::Rollback } else { gates::Kind::Gate };
        let is_open =
            |hook: &Hook| hook.to == Where::Gate && self.gates.is_open(kind, &self.rollout, &hook.namespace);
        self.hooks.iter().map(is_open).collect()
    }

    /// Until a gate of these is not as it was.
    async fn turned(&self, was: &[bool], mut turns: watch::Receiver<u64>) {
        while self.gates_now() == was {
            turns.changed().await.expect("`gates` holds the other end");
        }
    }

    /// Asks once, says what came of it, and waits until it is time to ask again.
    async fn round(&self, standing: &Standing, gates: &[bool]) {
        let mut asked = std::pin::pin!(self.ask_all(standing, gates));
        let (answer, why) = match tokio::time::timeout(self.patience(), &mut asked).await {
            Ok(said) => said,
            Err(_) => {
                // What they said before is no longer what they would say.
                self.say(standing, Answer::Silent, "no answer yet".to_owned()).await;
                asked.await
            }
        };
        self.say(standing, answer, why).await;
        let interval = self.hooks.iter().map(|hook| hook.interval).min().expect("there is one");
        tokio::time::sleep(interval).await;
    }

    /// The time in which all could have answered; beyond it calls are tried again.
    fn patience(&self) -> Duration {
        self.hooks.iter().map(|hook| hook.timeout).fold(Duration::ZERO, Duration::saturating_add)
    }

    async fn say(&self, standing: &Standing, answer: Answer, why: String) {
        // That there is no wish to roll back is no news.
        if self.on == HookType::Rollback && answer != Answer::Open {
            return;
        }
        let word = Word { on: self.on, step: standing.step, answer, why };
        let rollout = self.rollout.clone();
        // A tick that is gone needs no words.
        let _ = self.desk.ask(|reply| Ask::Word { rollout, word, reply }).await;
    }

    /// Silence is heard only where nobody says no.
    async fn ask_all(&self, standing: &Standing, gates: &[bool]) -> (Answer, String) {
        let (mut agreed, mut silent) = (Vec::new(), Vec::new());
        for (hook, is_open) in self.hooks.iter().zip(gates) {
            match self.ask(hook, *is_open, standing).await {
                Some(Ok(())) => agreed.push(hook.name.as_str()),
                Some(Err(cause)) => {
                    return (Answer::Closed, format!("{} {}: {cause}", self.on.name(), hook.name));
                }
                None => silent.push(hook.name.as_str()),
            }
        }
        if silent.is_empty() {
            return (Answer::Open, format!("{} {} agreed", self.on.name(), agreed.join(", ")));
        }
        (Answer::Silent, format!("{} {}: neither yes nor no", self.on.name(), silent.join(", ")))
    }

    async fn ask(&self, hook: &Hook, is_open: bool, standing: &Standing) -> Option<Result<(), String>> {
        match &hook.to {
            Where::Gate => Some(if is_open { Ok(()) } else { Err("the gate is closed".to_owned()) }),
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
                let service = spec.and_then(|spec| loaded.service(spec)).unwrap_or_default();
                let mut names = Names::of(&self.rollout, &hook.namespace, service, &hook.metadata);
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
            phase: standing.phase_for(self.on),
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
