//! What was sent to others and asked of them, as metrics.

use super::page::Page;
use crate::courier::Courier;
use crate::names;
use crate::names::label;

pub fn of(page: &mut Page<'_>, courier: &Courier) {
    page.part_that_moves("letters");
    for (receiver, account) in courier.ledger().read() {
        let labels = [(label::RECEIVER, receiver.as_str())];
        let waiting = "Alerts and events that wait to be sent.";
        page.gauge(names::LETTERS_WAITING, waiting, &labels, account.waiting as f64);
        for (result, count) in [("delivered", account.delivered), ("failed", account.failed)] {
            let labels = [labels[0], (label::RESULT, result)];
            let help = "Alerts, webhooks and questions to providers, by what came of them.";
            page.counter(names::LETTERS_TOTAL, help, &labels, count);
        }
        let retries = "Attempts beyond the first.";
        page.counter(names::LETTER_RETRIES_TOTAL, retries, &labels, account.retries);
        let took = "From the first attempt to the end, pauses between attempts included.";
        page.histogram(names::LETTER_DURATION_SECONDS, took, &labels, &account.took, &[]);
    }
    let dead = "What could not be delivered and is kept, see /dead-letters.";
    page.gauge(names::DEAD_LETTERS, dead, &[], courier.load().kept as f64);
}
