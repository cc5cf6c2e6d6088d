//! Looks after the ejections of one version: at once when a worker has found a
//! row of failures, and through all endpoints once in an interval.

use std::sync::Arc;

use rand::Rng;

use super::Chore;
use crate::clock;
use crate::hosts::Hosts;

pub fn chore(hosts: &Arc<Hosts>) -> Option<Chore> {
    let outliers = hosts.care.outliers.as_ref()?;
    let terms = format!("outliers {outliers:?}");
    Some(Chore { terms, hosts: hosts.clone(), run: Box::pin(watch(hosts.clone(), outliers.interval)) })
}

async fn watch(hosts: Arc<Hosts>, interval: std::time::Duration) {
    let mut bell = hosts.care.listen();
    let mut dice = rand::rng();
    let mut random = || dice.next_u64();
    let mut next = tokio::time::interval(interval);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    next.tick().await;
    // What was found before anybody listened.
    hosts.hear(clock::now_us(), &mut random);
    loop {
        tokio::select! {
            rung = bell.changed() => match rung {
                Ok(()) => hosts.hear(clock::now_us(), &mut random),
                Err(_) => return,
            },
            _ = next.tick() => hosts.review(clock::now_us(), &mut random),
        }
    }
}
