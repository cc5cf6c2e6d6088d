//! The past in files, so that it outlives the process: one file a block, named by
//! the block's first moment.
//!
//! A block that is over is written once more and then left; the one that grows is
//! replaced whole, so that a kill costs what came since the last time and no more.
//! What cannot be read is left out. There is never more on the disk than may be in
//! memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::piece::Piece;
use super::{Keep, Store};

/// Every end of a process leaves a short block: more than these are not kept.
const MOST_FILES: usize = 256;
const FRESH: &str = "fresh";

/// Where the past is kept, if anywhere.
#[derive(Debug, Default)]
pub struct Keeper(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    folder: Option<PathBuf>,
    /// Blocks before this one are in their files for good.
    written: u64,
    /// Bytes of each file, by the first moment in it.
    files: BTreeMap<i64, u64>,
    is_failing: bool,
}

impl Keeper {
    pub fn new(folder: Option<PathBuf>) -> Keeper {
        Keeper(Mutex::new(State { folder, ..State::default() }))
    }

    /// Gives the store what a process before us has left, the newest that there may be.
    pub fn restore(&self, store: &Store, keep: Keep, now: i64) {
        let mut state = self.state();
        let Some(folder) = state.folder.clone() else { return };
        state.files = files(&folder);
        let earliest = now.saturating_sub(span(keep));
        let (mut pieces, mut room, mut moments) = (Vec::new(), keep.bytes as u64, 0);
        for (first, size) in state.files.iter().rev().take(MOST_FILES) {
            room = room.saturating_sub(*size);
            if room == 0 || moments >= keep.moments {
                break;
            }
            let read = std::fs::read(path(&folder, *first)).ok();
            match read.and_then(|bytes| Piece::decode(&bytes)) {
                Some(piece) if piece.last().is_some_and(|last| last >= earliest) => {
                    moments += piece.times.len();
                    pieces.push(piece);
                }
                Some(_) => break,
                None => tracing::warn!(first, "a block of the past cannot be read and is left out"),
            }
        }
        pieces.reverse();
        store.restore(pieces, now);
        state.written = store.blocks();
    }

    /// Writes what has come since the last time. Answers with how many bytes that were.
    pub fn write(&self, store: &Store, keep: Keep) -> u64 {
        let mut state = self.state();
        let Some(folder) = state.folder.clone() else { return 0 };
        // Where nothing can be removed nothing is added.
        if !state.make_room(&folder, keep) {
            return 0;
        }
        let mut sum = 0;
        for (number, piece) in store.pieces(state.written) {
            let Some(first) = piece.times.first().copied() else { continue };
            let bytes = piece.encode();
            match replace(&folder, first, &bytes) {
                Ok(()) => {
                    state.is_failing = false;
                    // The last of them grows yet, and is written again.
                    state.written = number;
                    state.files.insert(first, bytes.len() as u64);
                    sum += bytes.len() as u64;
                }
                Err(cause) => {
                    state.fail(&cause, &folder, "the past is not written, and will not outlive the process");
                    break;
                }
            }
        }
        state.make_room(&folder, keep);
        sum
    }

    /// From here on another process writes.
    pub fn close(&self) {
        self.state().folder = None;
    }

    pub fn is_open(&self) -> bool {
        self.state().folder.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

impl State {
    /// Tells of a failure once, until something succeeds again.
    fn fail(&mut self, cause: &std::io::Error, folder: &Path, what: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%cause, folder = %folder.display(), "{what}");
        }
    }

    /// Removes what is old or too much. Answers whether there is room now.
    fn make_room(&mut self, folder: &Path, keep: Keep) -> bool {
        let mut bytes: u64 = self.files.values().sum();
        while let Some((&first, &size)) = self.files.first_key_value() {
            let newest = self.files.last_key_value().map_or(first, |(newest, _)| *newest);
            // What is between two files belongs to the first.
            let follows = self.files.keys().nth(1).copied().unwrap_or(newest);
            let is_old = follows < newest.saturating_sub(span(keep));
            let is_over = self.files.len() > MOST_FILES || bytes > keep.bytes as u64;
            let may_go = is_old || is_over && first != newest;
            if !may_go {
                break;
            }
            if let Err(cause) = std::fs::remove_file(path(folder, first))
                && cause.kind() != std::io::ErrorKind::NotFound
            {
                self.fail(&cause, folder, "the past's oldest cannot be removed, so nothing is added to it");
                return false;
            }
            self.files.remove(&first);
            bytes -= size;
        }
        true
    }
}

fn span(keep: Keep) -> i64 {
    i64::try_from(keep.moments).unwrap_or(i64::MAX).saturating_mul(1_000)
}

fn path(folder: &Path, first: i64) -> PathBuf {
    folder.join(format!("{first}.block"))
}

fn files(folder: &Path) -> BTreeMap<i64, u64> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let read = |entry: std::fs::DirEntry| {
        let first = entry.file_name().to_str()?.strip_suffix(".block")?.parse().ok()?;
        Some((first, entry.metadata().ok()?.len()))
    };
    entries.filter_map(|entry| read(entry.ok()?)).collect()
}

/// Whole or not at all.
fn replace(folder: &Path, first: i64, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let fresh = folder.join(FRESH);
    std::fs::write(&fresh, bytes)?;
    std::fs::rename(fresh, path(folder, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{NAME, Wish};

    const KEEP: Keep = Keep { moments: 20_000, bytes: 1 << 20 };

    fn write(store: &Store, seconds: std::ops::Range<i64>, keep: Keep) {
        for second in seconds {
            let mut record = store.record(second * 1000, keep).expect("time goes on");
            record.put(["a_", "total"], &[("who", "x")], None, (second * second) as f64);
            if second < 1500 {
                record.put(["b", ""], &[], None, 1.0);
            }
            record.finish();
        }
    }

    fn read(store: &Store, name: &str) -> Vec<(i64, Option<f64>)> {
        let is_meant = |labels: &crate::series::Labels| labels.get(NAME) == Some(name);
        let picked = store.pick(&[Wish { is_meant: &is_meant, from: 0, to: i64::MAX }]).remove(0);
        assert!(picked.len() < 2, "one series of these labels");
        let points = picked.into_iter().flat_map(|picked| picked.points(0, i64::MAX));
        points.map(|point| (point.at / 1000, (!point.is_stale()).then_some(point.value))).collect()
    }

    fn again(folder: &Path, now: i64) -> (Store, Keeper) {
        let (store, keeper) = (Store::default(), Keeper::new(Some(folder.to_owned())));
        keeper.restore(&store, KEEP, now * 1000);
        (store, keeper)
    }

    #[test]
    fn the_past_outlives_its_process_and_goes_on_in_the_same_series() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keeper) = again(folder.path(), 0);
        write(&store, 1..1800, KEEP);
        keeper.write(&store, KEEP);
        write(&store, 1800..3000, KEEP);
        keeper.write(&store, KEEP);
        write(&store, 3000..3005, KEEP);
        let (store, keeper) = again(folder.path(), 3100);
        write(&store, 3100..3200, KEEP);
        let points = read(&store, "a_total");
        let values = points.iter().filter(|(_, value)| value.is_some());
        let seconds: Vec<i64> = values.map(|(second, _)| *second).collect();
        assert!(seconds.iter().copied().eq((1..3000).chain(3100..3200)), "{seconds:?}");
        assert!(
            points.iter().all(|(second, value)| value.is_none_or(|value| value == (second * second) as f64))
        );
        assert!(points.contains(&(3000, None)), "it had ended when nobody counted");
        let known = read(&store, "b");
        assert_eq!(known.iter().filter(|(_, value)| value.is_some()).count(), 1499, "of what is gone, too");
        keeper.write(&store, KEEP);
        let (store, _) = again(folder.path(), 3201);
        assert_eq!(read(&store, "a_total"), points, "and once more");
        let usage = store.usage();
        assert_eq!((usage.series, usage.moments), (2, 3100));
    }

    #[test]
    fn torn_files_and_times_to_come_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keeper) = again(folder.path(), 0);
        write(&store, 1..3000, KEEP);
        keeper.write(&store, KEEP);
        let torn = path(folder.path(), 1025 * 1000);
        let bytes = std::fs::read(&torn).unwrap();
        std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
        let (store, _) = again(folder.path(), 4000);
        let seconds: Vec<i64> = read(&store, "a_total").iter().map(|(second, _)| *second).collect();
        assert!(seconds.contains(&1024) && !seconds.contains(&1100) && seconds.contains(&2049));
        let (store, _) = again(folder.path(), 2100);
        assert_eq!(read(&store, "a_total").last().unwrap().0, 1025, "the clock was set back since");
    }

    #[test]
    fn the_disk_holds_no_more_than_memory_may() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keeper) = again(folder.path(), 0);
        let keep = Keep { moments: 3_000, bytes: 12_000 };
        for round in 0..20 {
            write(&store, round * 1000 + 1..(round + 1) * 1000 + 1, keep);
            keeper.write(&store, keep);
        }
        let left = files(folder.path());
        assert!(left.values().sum::<u64>() <= 12_000 && left.len() > 1, "{left:?}");
        assert!(left.keys().all(|first| *first > 14_000_000), "{left:?}");
        let (store, keeper) = (Store::default(), Keeper::new(Some(folder.path().to_owned())));
        keeper.restore(&store, keep, 20_001_000);
        let moments = store.usage().moments;
        assert!((1_000..4_100).contains(&moments), "{moments}");
        // A folder in the place of the oldest file stands for whatever cannot be removed.
        let oldest = path(folder.path(), *left.keys().next().unwrap());
        std::fs::remove_file(&oldest).unwrap();
        std::fs::create_dir(&oldest).unwrap();
        write(&store, 30_000..33_000, keep);
        keeper.write(&store, keep);
        let before = files(folder.path());
        write(&store, 33_000..36_000, keep);
        assert_eq!(keeper.write(&store, keep), 0);
        assert_eq!(files(folder.path()), before, "more was added than could be removed");
        std::fs::remove_dir(&oldest).unwrap();
        assert!(keeper.write(&store, keep) > 0, "it goes on when it can");
        keeper.close();
        assert_eq!(keeper.write(&store, keep), 0, "another writes");
    }
}
