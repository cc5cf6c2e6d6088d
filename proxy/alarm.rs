//! Wakes the control side when a canary has failed, so that a decision is never
//! later than its evidence. Rings that nobody has heard yet count as one.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub struct Alarm {
    rung: AtomicBool,
    heard: Notify,
}

impl Alarm {
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.heard.notify_one();
        }
    }

    pub async fn wait(&self) {
        while !self.rung.swap(false, Ordering::AcqRel) {
            self.heard.notified().await;
        }
    }
}
