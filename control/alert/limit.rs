//! How often a receiver hears something: the same not again within its time, and
//! not more than so many messages in a minute. What is left out is counted and told
//! with the next message.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::message::Message;
use crate::clock::Moment;
use crate::outside::alert::{Receiver, Severity};

const MINUTE: Duration = Duration::from_secs(60);
/// Sayings that are remembered for one receiver.
const REMEMBERED: usize = 1_024;

#[derive(Default)]
pub struct Limits(BTreeMap<String, Heard>);

#[derive(Default)]
struct Heard {
    sent: VecDeque<Moment>,
    said: VecDeque<Saying>,
    left_out: u64,
}

#[derive(PartialEq)]
struct Saying {
    rollout: String,
    words: String,
    at: Moment,
}

impl Limits {
    /// How many were left out before this one, or nothing where this one is, too.
    pub fn admit(&mut self, receiver: &Receiver, message: &Message) -> Option<u64> {
        let heard = self.0.entry(receiver.name.clone()).or_default();
        let now = message.at;
        let is_turn = is_turn(message);
        // What was said before a turn is about another course of things.
        heard.said.retain(|said| {
            now.since(said.at) < receiver.repeat && !(is_turn && said.rollout == message.rollout)
        });
        heard.sent.retain(|at| now.since(*at) < MINUTE);
        // Those that resolve know by themselves what is the same.
        let resolving = receiver.kind.resolves();
        let (rollout, words) = (message.rollout.clone(), words(message));
        let is_same = |said: &Saying| said.rollout == rollout && said.words == words;
        if !resolving && heard.said.iter().any(is_same) {
            heard.left_out += 1;
            return None;
        }
        // A rollback is always told, and what ends what a receiver has opened.
        let must = message.severity == Severity::Error || (resolving && message.resolves);
        let is_full = heard.sent.len() >= usize::try_from(receiver.per_minute).unwrap_or(usize::MAX);
        if is_full && !must {
            heard.left_out += 1;
            return None;
        }
        if heard.said.len() == REMEMBERED {
            heard.said.pop_front();
        }
        heard.said.push_back(Saying { rollout, words, at: now });
        heard.sent.push_back(now);
        Some(std::mem::take(&mut heard.left_out))
    }
}

/// What makes two messages the same. What comes and goes with the evidence is the
/// same whatever its figures are.
fn words(message: &Message) -> String {
    match message.event.as_str() {
        "suspended" | "probed" | "held" | "released" | "halted" => message.event.clone(),
        _ => format!("{} {}", message.event, message.text),
    }
}

/// From where on a rollout's course begins anew, or has ended.
fn is_turn(message: &Message) -> bool {
    ["started", "promoted", "baked", "rolled_back", "aborted"].contains(&message.event.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::message::Page;
    use crate::outside::alert::Kind;
    use crate::secret::Text;

    fn receiver(per_minute: u32) -> Receiver {
        Receiver {
            name: "team".to_owned(),
            kind: Kind::Slack,
            url: Text::Plain("http://127.0.0.1:9".to_owned()),
            token: None,
            channel: None,
            username: None,
            template: None,
            headers: Default::default(),
            sign: None,
            tls: Default::default(),
            timeout: MINUTE,
            retries: 0,
            per_minute,
            repeat: Duration::from_secs(30),
            lasts: MINUTE,
        }
    }

    fn message(at: u64, event: &str, text: &str, severity: Severity) -> Message {
        let page = Page { link: None, admin: "a", environment: None, labels: &BTreeMap::new() };
        let test = Message::test(severity, &page, Moment(at));
        Message { event: event.to_owned(), text: text.to_owned(), ..test }
    }

    #[test]
    fn the_same_is_not_said_again_within_its_time() {
        let (mut limits, receiver) = (Limits::default(), receiver(100));
        let mut said =
            |at, event, text| limits.admit(&receiver, &message(at, event, text, Severity::Warn)).is_some();
        assert!(said(0, "suspended", "4 of 4 failures"));
        assert!(!said(5_000, "suspended", "5 of 5 failures"), "other figures, the same news");
        assert!(said(6_000, "step", "step 1 of 2") && said(7_000, "step", "step 2 of 2"));
        assert!(said(31_000, "suspended", "6 of 6 failures"), "its time is over");
    }

    #[test]
    fn a_rollout_that_begins_again_is_told_again_and_pagers_hear_every_change() {
        let (mut limits, chat) = (Limits::default(), receiver(100));
        let pager = Receiver { name: "pager".to_owned(), kind: Kind::PagerDuty, ..receiver(1) };
        let started = |at| message(at, "started", "step 1 of 2", Severity::Info);
        let suspended = |at| message(at, "suspended", "4 of 4 failures", Severity::Warn);
        for (at, message) in [started(1), suspended(2), started(3), suspended(4)].into_iter().enumerate() {
            assert_eq!(limits.admit(&chat, &message), Some(0), "{at}");
        }
        assert_eq!(limits.admit(&chat, &suspended(5)), None);
        assert_eq!(limits.admit(&pager, &suspended(6)), Some(0));
        let probed = Message { resolves: true, ..message(7, "probed", "clean", Severity::Info) };
        assert_eq!(limits.admit(&pager, &probed), Some(0), "whatever its limit is");
    }

    #[test]
    fn more_than_so_many_in_a_minute_are_counted_and_a_rollback_is_always_told() {
        let (mut limits, receiver) = (Limits::default(), receiver(2));
        let step = |at: u64| message(at, "step", &at.to_string(), Severity::Info);
        assert_eq!(limits.admit(&receiver, &step(1)), Some(0));
        assert_eq!(limits.admit(&receiver, &step(2)), Some(0));
        assert_eq!(limits.admit(&receiver, &step(3)), None);
        assert_eq!(limits.admit(&receiver, &message(4, "rolled_back", "x", Severity::Error)), Some(1));
        assert_eq!(limits.admit(&receiver, &step(5)), None);
        assert_eq!(limits.admit(&receiver, &step(61_000)), Some(1));
    }
}
