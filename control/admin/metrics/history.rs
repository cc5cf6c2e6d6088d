//! Writes the page into the history every second, on a thread of its own: the
//! tick is asked for what it knows, as a scrape asks it, and waits for nothing.
//! Another thread puts the history into files, so that a slow disk costs no second.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serin_proxy::Reading;

use super::fill;
use super::letters;
use super::page::{Family, Page, Part, Shown, Sink};
use crate::admin::Admin;
use crate::config::Metrics;
use crate::series::{About, Keep, Record, Store, Told};
use crate::tick::ask::Ask;
use crate::tick::view::MetricsView;

const INTERVAL_MS: u64 = 1000;
/// Files are written so often, and less often where that would be more than a
/// hundredth of the time, or more bytes than these.
const WRITE: Duration = Duration::from_secs(10);
/// Sooner while there is little, and doubled until it is as often as the rest.
const FIRST_WRITE: Duration = Duration::from_secs(1);
const LEAST_PAUSES: u32 = 100;
const MOST_BYTES_PER_SECOND: u64 = 64 << 10;

/// The last page: what it was told of, kept so that nothing else can stand where
/// that stands, and each thing of it in its turn.
#[derive(Default)]
struct Last {
    told_of: Option<(Reading, MetricsView)>,
    things: Vec<Thing>,
}

#[derive(Default)]
struct Thing {
    address: u64,
    parts: Vec<u64>,
}

struct Writer<'r, 's> {
    record: &'r mut Record<'s>,
    things: &'r mut Vec<Thing>,
    /// Of the things how many have had their turn.
    turns: usize,
}

impl Last {
    fn write(
        &mut self,
        record: &mut Record<'_>,
        (reading, view): (Reading, MetricsView),
        beside: impl FnOnce(&mut Page<'_>),
    ) {
        let mut writer = Writer { record, things: &mut self.things, turns: 0 };
        let mut page = Page(&mut writer);
        beside(&mut page);
        fill(&mut page, &reading, &view);
        let turns = writer.turns;
        self.things.truncate(turns);
        self.told_of = Some((reading, view));
    }
}

impl Writer<'_, '_> {
    fn describe(&mut self, family: Family) {
        if self.record.is_known() {
            return;
        }
        self.record.describe(family.name, About { kind: family.kind.as_str(), help: family.help });
    }
}

impl Sink for Writer<'_, '_> {
    fn rests(&mut self, address: u64) -> bool {
        if self.turns == self.things.len() {
            self.things.push(Thing::default());
        }
        let thing = &mut self.things[self.turns];
        self.turns += 1;
        if thing.address == address && thing.parts.iter().all(|part| self.record.goes_on(*part)) {
            return true;
        }
        thing.address = address;
        thing.parts.clear();
        false
    }

    fn part(&mut self, part: &Part) -> bool {
        if let Some(thing) = self.turns.checked_sub(1) {
            self.things[thing].parts.push(part.key);
        }
        self.record.part(part.key, Told { state: part.state, shape: part.shape })
    }

    fn number(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        self.describe(family);
        self.record.put([family.name, ""], labels, None, value);
    }

    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], shown: &Shown<'_>) {
        self.describe(family);
        let bucket = [family.name, "_bucket"];
        for (edge, below) in shown.edges.iter().zip(&shown.below) {
            self.record.put(bucket, labels, Some(("le", &edge.text)), *below as f64);
        }
        self.record.put(bucket, labels, Some(("le", "+Inf")), shown.count as f64);
        self.record.put([family.name, "_sum"], labels, None, shown.sum);
        self.record.put([family.name, "_count"], labels, None, shown.count as f64);
    }
}

/// Goes on for as long as there is a tick.
pub fn begin(admin: &Admin) -> std::io::Result<()> {
    let (recorder, writer) = (admin.clone(), admin.clone());
    thread::Builder::new().name("history".to_owned()).spawn(move || {
        let now = i64::try_from(recorder.facts.clock.now().0).unwrap_or(i64::MAX);
        let keep = keep(&recorder.outward.loaded.borrow().metrics);
        recorder.facts.keeper.restore(&recorder.history, keep, now);
        let mut last = Last::default();
        while record(&recorder, &mut last) {}
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
fn record(admin: &Admin, last: &mut Last) -> bool {
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
        let courier = &admin.outward.courier;
        last.write(&mut record, (reading, view), |page| letters::of(page, courier));
        record.finish();
    }
    true
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};
    use serin_proxy::histogram::Histogram;
    use serin_proxy::model::Role;
    use serin_proxy::reading::{Counts, Sent, VersionReading};

    use super::*;
    use crate::series::{Labels, Wish};

    const KEEP: Keep = Keep { moments: 10_000, bytes: 1 << 30 };

    fn view() -> MetricsView {
        MetricsView {
            rollouts: Vec::new(),
            reloads: crate::tick::view::Reloads::default(),
            is_journal_writable: true,
            certificates: Vec::new(),
            metrics: Metrics { dialects: Vec::new(), ..Metrics::default() },
        }
    }

    fn version(service: usize, success: u64) -> Arc<VersionReading> {
        Arc::new(VersionReading {
            service: format!("shop-{service}"),
            version: "primary".to_owned(),
            role: Role::Primary,
            sent: Sent::ByUsers,
            counts: Counts { success, ..Counts::default() },
            latency: Histogram::default(),
            codes: Vec::new(),
            exemplars: Vec::new(),
        })
    }

    /// What is kept of versions that mostly rest, and come and go.
    fn kept(forgets: bool) -> Vec<(Labels, Vec<(i64, u64)>)> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let (store, mut last) = (Store::default(), Last::default());
        let mut versions: Vec<_> = (0..4).map(|service| version(service, 0)).collect();
        for second in 0..400 {
            for (service, version) in versions.iter_mut().enumerate() {
                if random.random_bool(0.3) {
                    *version = self::version(service, version.counts.success + 1);
                }
            }
            let there = versions.iter().filter(|_| random.random_bool(0.9)).cloned().collect();
            if forgets {
                last = Last::default();
            }
            let mut record = store.record(second, KEEP).expect("later");
            last.write(&mut record, (Reading { versions: there, ..Reading::default() }, view()), |_| {});
            record.finish();
        }
        let is_meant = |labels: &Labels| labels.get("service").is_some();
        let picked = store.pick(&[Wish { is_meant: &is_meant, from: 0, to: 400 }]).remove(0);
        let bits = |picked: &crate::series::Picked| {
            picked.points(0, 400).iter().map(|point| (point.at, point.value.to_bits())).collect()
        };
        let mut all: Vec<_> = picked.iter().map(|picked| (picked.labels.clone(), bits(picked))).collect();
        all.sort();
        all
    }

    #[test]
    fn what_rests_is_kept_as_if_it_were_told_each_time() {
        let (all, skipped) = (kept(true), kept(false));
        assert!(all.len() > 100, "{}", all.len());
        assert_eq!(all, skipped);
    }
}
