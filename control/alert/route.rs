//! To whom a message goes. What a route ignores it does not take, then everything
//! that it names has to fit; what it does not name fits.

use std::collections::BTreeMap;

use crate::outside::alert::{Alerts, Receiver, Route, Severity};

use super::message::Message;

/// Each once, in the order of the receivers.
pub fn receivers<'a>(alerts: &'a Alerts, message: &Message) -> Vec<&'a Receiver> {
    let leads = |receiver: &Receiver| {
        let mut routes = alerts.routes.iter().filter(|route| route.receiver == receiver.name);
        routes.any(|route| takes(route, receiver, message))
    };
    alerts.receivers.iter().filter(|receiver| leads(receiver)).collect()
}

fn takes(route: &Route, receiver: &Receiver, message: &Message) -> bool {
    let is = |list: &[String], word: &str| list.iter().any(|item| item == word);
    let fits = |list: &[String], word: &str| list.is_empty() || is(list, word);
    let environment = message.environment.as_deref().unwrap_or_default();
    let has = |labels: &BTreeMap<String, String>| {
        labels.iter().all(|(name, value)| message.labels.get(name) == Some(value))
    };
    if is(&route.ignore_events, &message.event)
        || is(&route.ignore_rollouts, &message.rollout)
        || is(&route.ignore_services, &message.service)
        || is(&route.ignore_environments, environment)
        || (!route.ignore_labels.is_empty() && has(&route.ignore_labels))
    {
        return false;
    }
    // What a receiver has opened it has to hear the end of.
    let ends = receiver.kind.resolves() && message.resolves;
    let matters = match receiver.kind.resolves() {
        true => message.severity >= route.severity.max(Severity::Warn) || ends,
        false => message.severity >= route.severity,
    };
    matters
        && (fits(&route.events, &message.event) || ends)
        && fits(&route.rollouts, &message.rollout)
        && fits(&route.services, &message.service)
        && fits(&route.environments, environment)
        && has(&route.labels)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::alert::message::Page;
    use crate::clock::Moment;
    use crate::outside::alert::Kind;
    use crate::secret::Text;

    pub fn receiver(name: &str, kind: Kind) -> Receiver {
        Receiver {
            name: name.to_owned(),
            kind,
            url: Text::Plain("http://127.0.0.1:9".to_owned()),
            token: None,
            channel: None,
            username: None,
            template: None,
            headers: Default::default(),
            sign: None,
            tls: Default::default(),
            timeout: std::time::Duration::from_secs(5),
            retries: 0,
            per_minute: 30,
            repeat: std::time::Duration::from_secs(60),
            lasts: std::time::Duration::from_secs(60),
        }
    }

    fn message(event: &str, severity: Severity) -> Message {
        let labels = labels(&[("team", "birds"), ("tier", "1")]);
        let environment = Some("production");
        let page = Page { link: None, admin: "127.0.0.1:9901", environment, labels: &labels };
        let test = Message::test(severity, &page, Moment(1));
        Message { event: event.to_owned(), rollout: "web".to_owned(), service: "shop".to_owned(), ..test }
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
    }

    fn to(route: Route, message: &Message) -> bool {
        let route = Route { receiver: "team".to_owned(), ..route };
        let alerts = Alerts {
            receivers: vec![receiver("team", Kind::Slack)],
            routes: vec![route],
            ..Alerts::default()
        };
        !receivers(&alerts, message).is_empty()
    }

    #[test]
    fn a_route_takes_what_fits_and_never_what_it_ignores() {
        let list = |word: &str| vec![word.to_owned()];
        let failed = message("rolled_back", Severity::Error);
        let step = message("step", Severity::Info);
        assert!(to(Route::default(), &step) && to(Route::default(), &failed));
        let warn = Route { severity: Severity::Warn, ..Route::default() };
        assert!(!to(warn.clone(), &step) && to(warn, &failed));
        let events = Route { events: list("step"), ..Route::default() };
        assert!(to(events.clone(), &step) && !to(events, &failed));
        let ignore = Route { events: list("step"), ignore_events: list("step"), ..Route::default() };
        assert!(!to(ignore, &step), "ignoring comes first");
        for (fits, route) in [
            (true, Route { services: list("shop"), environments: list("production"), ..Route::default() }),
            (false, Route { services: list("web"), ..Route::default() }),
            (false, Route { environments: list("staging"), ..Route::default() }),
            (false, Route { ignore_rollouts: list("web"), ..Route::default() }),
            (false, Route { ignore_environments: list("production"), ..Route::default() }),
            (true, Route { ignore_environments: list("staging"), ..Route::default() }),
            (true, Route { labels: labels(&[("team", "birds"), ("tier", "1")]), ..Route::default() }),
            (false, Route { labels: labels(&[("team", "birds"), ("tier", "2")]), ..Route::default() }),
            (false, Route { ignore_labels: labels(&[("team", "birds")]), ..Route::default() }),
            (true, Route { ignore_labels: labels(&[("team", "fish")]), ..Route::default() }),
        ] {
            assert_eq!(to(route, &failed), fits);
        }
    }

    #[test]
    fn a_receiver_with_two_routes_hears_once_and_pagers_hear_only_what_is_wrong_or_ends_it() {
        let twice = || Route { receiver: "team".to_owned(), ..Route::default() };
        let of = |kind| Alerts {
            receivers: vec![receiver("team", kind)],
            routes: vec![twice(), twice()],
            ..Alerts::default()
        };
        assert_eq!(receivers(&of(Kind::Slack), &message("step", Severity::Info)).len(), 1);
        let paused = Message { resolves: false, ..message("paused", Severity::Info) };
        assert!(receivers(&of(Kind::PagerDuty), &paused).is_empty());
        let probed = Message { resolves: true, ..message("probed", Severity::Info) };
        assert_eq!(receivers(&of(Kind::PagerDuty), &probed).len(), 1);
    }
}
