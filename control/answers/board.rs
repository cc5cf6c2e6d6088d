//! All splits' ledgers, and the thread that compares. The tick looks here, and people do;
//! they wait at most while one look is entered, never while answers are compared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serin_proxy::trio::Trio;
use tokio::sync::mpsc;

use super::Settings;
use super::ledger::{Differences, Ledger, Standing};
use super::look::look;

#[derive(Clone, Default)]
pub struct Board(Arc<Shared>);

#[derive(Default)]
struct Shared {
    sheets: Mutex<BTreeMap<String, Sheet>>,
    /// No split's answers are compared: nothing is to be had here.
    is_used: AtomicBool,
    lives: AtomicU64,
}

struct Sheet {
    settings: Arc<Settings>,
    ledger: Ledger,
}

impl Board {
    /// Compares what comes, on a thread of its own, until the proxy ends.
    pub fn start(&self, mut trios: mpsc::Receiver<Trio>) -> std::io::Result<()> {
        let board = self.clone();
        std::thread::Builder::new().name("serin-answers".to_owned()).spawn(move || {
            while let Some(trio) = trios.blocking_recv() {
                board.take(&trio);
            }
        })?;
        Ok(())
    }

    /// The splits whose answers are compared from now on. Where nothing changed what was
    /// seen stays.
    pub fn configure(&self, asked: &BTreeMap<String, Settings>) {
        let mut sheets = self.sheets();
        sheets.retain(|split, sheet| asked.get(split) == Some(&sheet.settings));
        for (split, settings) in asked {
            if !sheets.contains_key(split) {
                sheets.insert(split.clone(), self.sheet(settings));
            }
        }
        self.0.is_used.store(!asked.is_empty(), Ordering::Relaxed);
    }

    /// Another release: what was seen of the one before does not count for it.
    pub fn restart(&self, split: &str) {
        if let Some(sheet) = self.sheets().get_mut(split) {
            *sheet = self.sheet(&sheet.settings.clone());
        }
    }

    pub fn standing(&self, split: &str) -> Option<Arc<Standing>> {
        if !self.0.is_used.load(Ordering::Relaxed) {
            return None;
        }
        self.sheets().get(split).map(|sheet| sheet.ledger.standing())
    }

    pub fn report(&self) -> Vec<Differences> {
        self.sheets().iter().map(|(split, sheet)| sheet.ledger.report(split)).collect()
    }

    /// Where each split stands, for those who count.
    pub fn standings(&self) -> Vec<(String, Arc<Standing>)> {
        self.sheets().iter().map(|(split, sheet)| (split.clone(), sheet.ledger.standing())).collect()
    }

    fn take(&self, trio: &Trio) {
        let known = self.sheets().get(&trio.split).map(|sheet| sheet.settings.clone());
        let Some(settings) = known else { return };
        let looked = look(trio, &settings);
        let mut sheets = self.sheets();
        let sheet = sheets.get_mut(&trio.split).filter(|sheet| Arc::ptr_eq(&sheet.settings, &settings));
        // What was asked before it began anew is nobody's.
        let Some(sheet) = sheet else { return };
        if sheet.ledger.version != trio.version {
            if !sheet.ledger.version.is_empty() {
                *sheet = self.sheet(&settings);
            }
            sheet.ledger.version.clone_from(&trio.version);
        }
        sheet.ledger.record(looked, &trio.route, &trio.path);
    }

    fn sheet(&self, settings: &Settings) -> Sheet {
        let life = self.0.lives.fetch_add(1, Ordering::Relaxed) + 1;
        Sheet { settings: Arc::new(settings.clone()), ledger: Ledger::new(life, settings) }
    }

    fn sheets(&self) -> MutexGuard<'_, BTreeMap<String, Sheet>> {
        self.0.sheets.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serin_proxy::trio::Answered;

    use super::*;

    fn trio(version: &str) -> Trio {
        let text = |text: &str| text.to_owned();
        let answered = || Some(Answered { status: 200, fields: HeaderMap::new(), body: Some(Vec::new()) });
        let (primary, again, canary) = (answered(), answered(), answered());
        let (split, version, route, path) = (text("web"), text(version), text("all"), text("/"));
        Trio { split, version, route, path, primary, again, canary }
    }

    #[test]
    fn what_was_seen_outlives_a_reload_and_no_release() {
        let board = Board::default();
        assert_eq!(board.standing("web"), None);
        let asked = BTreeMap::from([("web".to_owned(), Settings::default())]);
        board.configure(&asked);
        board.take(&trio("canary"));
        board.take(&Trio { split: "other".to_owned(), ..trio("canary") });
        board.configure(&asked);
        let standing = board.standing("web").unwrap();
        assert_eq!(standing.compared, 1, "nothing changed for it");
        board.restart("web");
        let anew = board.standing("web").unwrap();
        assert!(anew.compared == 0 && anew.life > standing.life, "{anew:?}");
        board.take(&trio("canary"));
        board.take(&trio("next"));
        let report = board.report().remove(0);
        assert_eq!((report.version.as_deref(), report.compared), (Some("next"), 1));
        board.configure(&BTreeMap::new());
        assert_eq!(board.standing("web"), None);
    }
}
