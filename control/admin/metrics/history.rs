//! Writes the page into the history every second, on a thread of its own: the
//! tick is asked for what it knows, as a scrape asks it, and waits for nothing.
//! Another thread puts the history into files, so that a slow disk costs no second.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::fill;
use super::letters;
use super::page::{Family, Page, Part, Shown, Sink};
use crate::admin::Admin;
use crate::config::Metrics;
use crate::series::{About, Keep, Record, Store, Told};
use crate::tick::ask::Ask;

const INTERVAL_MS: u64 = 1000;
/// Files are written so often, and less often where that would be more than a
/// hundredth of the time, or more bytes than these.
const WRITE: Duration = Duration::from_secs(10);
/// Sooner while there is little, and doubled until it is as often as the rest.
const FIRST_WRITE: Duration = Duration::from_secs(1);
const LEAST_PAUSES: u32 = 100;
const MOST_BYTES_PER_SECOND: u64 = 64 << 10;

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
    let (recorder, writer) = (admin.clone(), admin.clone());
    thread::Builder::new().name("history".to_owned()).spawn(move || {
        let now = i64::try_from(recorder.facts.clock.now().0).unwrap_or(i64::MAX);
        let keep = keep(&recorder.outward.loaded.borrow().metrics);
        recorder.facts.keeper.restore(&recorder.history, keep, now);
        while record(&recorder) {}
    })?;
    thread::Builder::new().name("history-files".to_owned()).spawn(move || write_often(&writer))?;
    Ok(())
}

/// Puts all that is known into files, for the next process. It may take a moment.
pub async fn leave(admin: &Admin) {
    let admin = admin.clone();
    let keep = keep(&admin.outward.loaded.borrow().metrics);
    let written = tokio::task::spawn_blocking(move || admin.facts.keeper.write(&admin.history, keep)).await;
    if let Err(cause) = written {
        tracing::error!(%cause, "the history of metrics is not left to the next process");
    }
}

fn keep(metrics: &Metrics) -> Keep {
    let moments = usize::try_from(metrics.history.as_secs()).unwrap_or(usize::MAX);
    Keep { moments, bytes: metrics.memory_bytes }
}

fn write_often(admin: &Admin) {
    let (mut pause, mut least) = (FIRST_WRITE, FIRST_WRITE);
    while admin.facts.keeper.is_open() {
        thread::sleep(pause);
        let begun = admin.facts.clock.now();
        let keep = keep(&admin.outward.loaded.borrow().metrics);
        let bytes = admin.facts.keeper.write(&admin.history, keep);
        let took = Duration::from_millis(admin.facts.clock.now().0.saturating_sub(begun.0));
        let by_bytes = Duration::from_secs(bytes / MOST_BYTES_PER_SECOND);
        least = WRITE.min(least * 2);
        pause = least.max(by_bytes).max(took * LEAST_PAUSES);
    }
}

/// Waits for the next second and writes it down. False when serin is stopping.
fn record(admin: &Admin) -> bool {
    let past = admin.facts.clock.now().0 % INTERVAL_MS;
    thread::sleep(Duration::from_millis(INTERVAL_MS - past));
    let Ok((reading, view)) = admin.desk.ask_blocking(|reply| Ask::Metrics { reply }) else {
        return false;
    };
    let keep = keep(&view.metrics);
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
