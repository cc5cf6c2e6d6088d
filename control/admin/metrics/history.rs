//! Writes the page into the history every second, on a thread of its own: the
//! tick is asked for what it knows, as a scrape asks it, and waits for nothing.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::fill;
use super::letters;
use super::page::{Family, Page, Part, Shown, Sink};
use crate::admin::Admin;
use crate::series::{About, Keep, Record, Store, Told};
use crate::tick::ask::Ask;

const INTERVAL_MS: u64 = 1000;

struct Writer<'r, 's>(&'r mut Record<'s>);

impl Writer<'_, '_> {
    fn describe(&mut self, family: Family) {
        if self.0.is_known() {
            return;
        }
        self.0.describe(family.name, About { kind: family.kind.as_str(), help: family.help });
    }
}

impl Sink for Writer<'_, '_> {
    fn part(&mut self, part: &Part) -> bool {
        self.0.part(part.key, Told { state: part.state, shape: part.shape })
    }

    fn number(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        self.describe(family);
        self.0.put([family.name, ""], labels, None, value);
    }

    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], shown: &Shown<'_>) {
        self.describe(family);
        let bucket = [family.name, "_bucket"];
        for (edge, below) in shown.edges.iter().zip(&shown.below) {
            self.0.put(bucket, labels, Some(("le", &edge.text)), *below as f64);
        }
        self.0.put(bucket, labels, Some(("le", "+Inf")), shown.count as f64);
        self.0.put([family.name, "_sum"], labels, None, shown.sum);
        self.0.put([family.name, "_count"], labels, None, shown.count as f64);
    }
}

/// Goes on for as long as there is a tick.
pub fn begin(admin: &Admin) -> std::io::Result<()> {
    let admin = admin.clone();
    thread::Builder::new().name("history".to_owned()).spawn(move || while record(&admin) {})?;
    Ok(())
}

/// Waits for the next second and writes it down. False when serin is stopping.
fn record(admin: &Admin) -> bool {
    let past = admin.facts.clock.now().0 % INTERVAL_MS;
    thread::sleep(Duration::from_millis(INTERVAL_MS - past));
    let Ok((reading, view)) = admin.desk.ask_blocking(|reply| Ask::Metrics { reply }) else {
        return false;
    };
    let keep = Keep {
        moments: usize::try_from(view.metrics.history.as_secs()).unwrap_or(usize::MAX),
        bytes: view.metrics.memory_bytes,
    };
    if keep.moments == 0 {
        return true;
    }
    let at = i64::try_from(admin.facts.clock.now().0).unwrap_or(i64::MAX);
    let store: &Arc<Store> = &admin.history;
    if let Some(mut record) = store.record(at, keep) {
        fill(&mut Page(&mut Writer(&mut record)), &reading, &view);
        letters::of(&mut Page(&mut Writer(&mut record)), &admin.outward.courier);
        record.finish();
    }
    true
}
