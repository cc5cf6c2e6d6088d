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
    said: VecDeque<(String, Moment)>,
    left_out: u64,
}

impl Limits {
    /// How many were left out before this one, or nothing where this one is, too.
    pub fn admit(&mut self, receiver: &Receiver, message: &Message) -> Option<u64> {
        let heard = self.0.entry(receiver.name.clone()).or_default();
        let now = message.at;
        heard.said.retain(|(_, at)| now.since(*at) < receiver.repeat);
        heard.sent.retain(|at| now.since(*at) < MINUTE);
        let saying = saying(message);
        if heard.said.iter().any(|(said, _)| *said == saying) {
            heard.left_out += 1;
            return None;
        }
        // A rollback is always told.
        let is_full = heard.sent.len() >= usize::try_from(receiver.per_minute).unwrap_or(usize::MAX);
        if is_full && message.severity < Severity::Error {
            heard.left_out += 1;
            return None;
        }
        if heard.said.len() == REMEMBERED {
            heard.said.pop_front();
        }
        heard.said.push_back((saying, now));
        heard.sent.push_back(now);
        Some(std::mem::take(&mut heard.left_out))
    }
}

/// What makes two messages the same. What comes and goes with the evidence is the
/// same whatever its figures are.
fn saying(message: &Message) -> String {
    match message.event.as_str() {
        "suspended" | "probed" | "held" | "released" => format!("{} {}", message.rollout, message.event),
        _ => format!("{} {} {}", message.rollout, message.event, message.text),
    }
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
        let page = Page { link: None, admin: "a", environment: None };
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
