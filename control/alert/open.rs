//! What fires at receivers that forget: Alertmanager wants to hear again and again
//! of what is still so, loses it when it starts anew, and takes silence for an end.
//! So each open alert is said again until something ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::outside::alert::{Kind, Receiver, Severity};

use super::message::{Message, time};

/// About so often, and thrice in the time for which an alert fires by itself.
const AGAIN: Duration = Duration::from_secs(60);
/// Nobody has done anything about it for so long: it is not said any more.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// By receiver and rollout.
#[derive(Default)]
pub struct Open(BTreeMap<(String, String), Fired>);

struct Fired {
    message: Message,
    said: Moment,
}

impl Open {
    /// That this was said to this receiver.
    pub fn note(&mut self, receiver: &Receiver, message: &Message) {
        if receiver.kind != Kind::Alertmanager {
            return;
        }
        let key = (receiver.name.clone(), message.rollout.clone());
        match fires(message) {
            true => drop(self.0.insert(key, Fired { message: message.clone(), said: message.at })),
            false => drop(self.0.remove(&key)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be said again now, and that what nobody knows any more has ended.
    pub fn due<'r>(
        &mut self,
        now: Moment,
        receivers: &'r [Receiver],
        is_known: impl Fn(&str) -> bool,
    ) -> Vec<(&'r Receiver, Message)> {
        let mut due = Vec::new();
        self.0.retain(|(receiver, rollout), fired| {
            let Some(receiver) = receivers.iter().find(|known| known.name == *receiver) else { return false };
            if now.since(fired.message.at) > LONGEST {
                return false;
            }
            if !is_known(rollout) {
                let text = "it is configured no more".to_owned();
                let message = fired.message.clone();
                due.push((receiver, Message { at: now, time: time(now), text, resolves: true, ..message }));
                return false;
            }
            if now.since(fired.said) >= AGAIN.min(receiver.lasts / 3) {
                fired.said = now;
                due.push((receiver, Message { again: Some(now), ..fired.message.clone() }));
            }
            true
        });
        due
    }
}

/// Whether a receiver that holds a state holds one from it on.
pub fn fires(message: &Message) -> bool {
    message.severity >= Severity::Warn && !message.resolves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::message::Page;
    use crate::alert::route::tests::receiver;

    fn message(at: u64, resolves: bool) -> Message {
        let page = Page { link: None, admin: "a", environment: None, labels: &BTreeMap::new() };
        let severity = if resolves { Severity::Info } else { Severity::Error };
        Message { rollout: "web".to_owned(), resolves, ..Message::test(severity, &page, Moment(at)) }
    }

    #[test]
    fn an_open_alert_is_said_again_until_something_ends_it() {
        let receivers = [receiver("am", Kind::Alertmanager), receiver("chat", Kind::Slack)];
        let receivers = receivers.map(|receiver| Receiver { lasts: 4 * AGAIN, ..receiver });
        let mut open = Open::default();
        let said = |open: &mut Open, at: u64| -> Vec<(String, Option<Moment>)> {
            let due = open.due(Moment(at), &receivers, |_| true);
            due.into_iter().map(|(receiver, message)| (receiver.name.clone(), message.again)).collect()
        };
        receivers.iter().for_each(|receiver| open.note(receiver, &message(1_000, false)));
        assert!(said(&mut open, 50_000).is_empty());
        assert_eq!(said(&mut open, 61_000), [("am".to_owned(), Some(Moment(61_000)))]);
        assert!(said(&mut open, 62_000).is_empty());
        assert_eq!(said(&mut open, 121_000).len(), 1);
        open.note(&receivers[0], &message(122_000, true));
        assert!(said(&mut open, 500_000).is_empty() && open.is_empty());
        open.note(&receivers[0], &message(600_000, false));
        assert!(said(&mut open, 600_000 + 8 * 24 * 3_600_000).is_empty(), "it has an end");
        assert!(open.is_empty());
    }

    #[test]
    fn one_whose_rollout_is_gone_ends() {
        let receivers = [receiver("am", Kind::Alertmanager)];
        let mut open = Open::default();
        open.note(&receivers[0], &message(1_000, false));
        let due = open.due(Moment(2_000), &receivers, |_| false);
        assert!(due.len() == 1 && due[0].1.resolves && due[0].1.at == Moment(2_000));
        assert!(open.is_empty());
    }
}
