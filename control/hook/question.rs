//! A number that a judge looks at and a provider gives: asked for again and again
//! while the rollout is under way. Each answer, be it none or that there was no answer,
//! goes to the tick as evidence; what follows from it is the judge's to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::standing::Standing;
use crate::clock::{Clock, Moment};
use crate::config::Loaded;
use crate::courier::ledger::Ledger;
use crate::judge::samples::{Arm, Outside, POINTS, Question, Sample};
use crate::provider::{self, Names};
use crate::tick::ask::{Ask, Desk};

/// Of what is said where no number comes.
const LONGEST_ERROR: usize = 500;

pub struct Asking {
    pub desk: Desk,
    pub loaded: watch::Receiver<Arc<Loaded>>,
    pub clock: Clock,
    pub ledger: Ledger,
    pub standings: watch::Receiver<Standing>,
    pub rollout: String,
    pub question: Question,
    pub arm: Arm,
}

impl Asking {
    /// Until the rollout is no longer followed.
    pub async fn run(mut self) {
        loop {
            let is_looked_at = self.standings.borrow_and_update().is_looked_at();
            if !is_looked_at {
                if self.standings.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let begun = Instant::now();
            let sample = self.ask().await;
            if self.tell(sample, begun.elapsed()).await.is_err() {
                return;
            }
            tokio::time::sleep_until(begun + self.question.every).await;
        }
    }

    async fn tell(&self, sample: Sample, took: Duration) -> Result<(), ()> {
        tracing::debug!(rollout = self.rollout, figure = self.question.name, ?sample, "asked for a figure");
        let figure =
            Outside { name: self.question.name.clone(), arm: self.arm, at: Moment::default(), sample };
        let rollout = self.rollout.clone();
        let told = self.desk.ask(|reply| Ask::Figure { rollout, figure, took, reply }).await;
        // A rollout that is gone is no longer followed soon; a tick that is gone ends us.
        told.map(|_| ()).map_err(|_| ())
    }

    async fn ask(&self) -> Sample {
        let loaded = Arc::clone(&self.loaded.borrow());
        let query = &self.question.query;
        let Some(provider) = loaded.providers.iter().find(|provider| provider.name == query.provider) else {
            return Sample::Error(format!("there is no provider {:?}", query.provider));
        };
        let (begun, account) = (Instant::now(), format!("provider {}", provider.name));
        let sample = provider::ask(provider, query, &self.names(&loaded), self.clock.now()).await;
        let is_answered = !matches!(sample, provider::Sample::Error(_));
        self.ledger.ended(&account, is_answered, 1, begun.elapsed());
        sample_of(sample)
    }

    fn names(&self, loaded: &Loaded) -> Names {
        let Some(spec) = loaded.rollouts.iter().find(|spec| spec.name == self.rollout) else {
            return Names::default();
        };
        let service = loaded.service(spec).unwrap_or(&spec.split);
        let names = Names::of(&self.rollout, "default", service, &BTreeMap::new());
        let (version, variant) = match (self.arm, &spec.baseline) {
            (Arm::Canary, _) => (&spec.canary, "canary"),
            (Arm::Primary, Some(baseline)) => (baseline, "baseline"),
            (Arm::Primary, None) => (&spec.primary, "primary"),
        };
        Names {
            version: version.clone(),
            variant: BTreeMap::from([("Name", variant.to_owned())]),
            primary: spec.primary.clone(),
            canary: spec.canary.clone(),
            ..names
        }
    }
}

/// The answer as the judge keeps it: no larger than it may be.
fn sample_of(answer: provider::Sample) -> Sample {
    match answer {
        provider::Sample::Absent => Sample::Absent,
        provider::Sample::Number(value) => Sample::Number(value.into()),
        provider::Sample::Numbers(values) => {
            Sample::Numbers(values.into_iter().take(POINTS).map(Into::into).collect())
        }
        provider::Sample::Said(value) => match value.to_string().len() {
            0..=Outside::LARGEST => Sample::Said(value),
            length => Sample::Error(format!(
                "an answer of {length} bytes is more than {}; ask for less of it",
                Outside::LARGEST
            )),
        },
        provider::Sample::Error(text) => Sample::Error(text.chars().take(LONGEST_ERROR).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_kind_and_within_its_bounds() {
        let large = "x".repeat(Outside::LARGEST);
        assert_eq!(sample_of(provider::Sample::Absent), Sample::Absent);
        assert_eq!(sample_of(provider::Sample::Number(0.5)), Sample::Number(0.5.into()));
        let Sample::Numbers(kept) = sample_of(provider::Sample::Numbers(vec![1.0; POINTS + 1])) else {
            panic!("several stay several")
        };
        assert_eq!(kept.len(), POINTS);
        assert!(matches!(sample_of(provider::Sample::Said(large.clone().into())), Sample::Error(_)));
        let Sample::Error(text) = sample_of(provider::Sample::Error(large)) else { panic!("it stays one") };
        assert_eq!(text.len(), LONGEST_ERROR);
    }
}
