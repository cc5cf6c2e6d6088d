//! Falls that are in force and not yet in the journal: a page of memory beside it
//! that outlives a killed process.
//!
//! A fall acts before it is written, so a `kill -9` in between would forget it, and
//! the next process would give the canary what was taken from it. A note here is a
//! few stores that wait for no disk. It holds a weight and what kind of decision
//! lowered it, not the reasons: those are the journal's, and where the journal has
//! them the note is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use crate::clock::Moment;
use crate::rollout::EventKind;

const FILE: &str = "falls.cell";
/// What the words mean; notes of another version are passed over.
const MAGIC: u64 = u64::from_le_bytes(*b"serinfl1");
/// A place has 16 words: the name in 8, then kind, weight, moment and check.
const PLACE: usize = 16;
const NAME: usize = 8;
/// Rollouts that can be noted at once; the first place holds the magic.
const PLACES: usize = 63;
const WORDS: usize = (PLACES + 1) * PLACE;
const BYTES: usize = WORDS * size_of::<u64>();
/// Decisions that lower a canary's weight.
const KINDS: [EventKind; 4] =
    [EventKind::RolledBack, EventKind::Aborted, EventKind::Suspended, EventKind::Started];

/// A canary's weight went down to `parts`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fall {
    pub at: Moment,
    pub kind: EventKind,
    pub parts: u32,
}

pub struct Falls {
    memory: NonNull<AtomicU64>,
}

// SAFETY: it is memory of this process that is only touched by atomic operations.
unsafe impl Send for Falls {}

impl Falls {
    /// The page, and what was noted on it by whoever had it before.
    pub fn open(directory: &Path) -> std::io::Result<(Falls, BTreeMap<String, Fall>)> {
        let path = directory.join(FILE);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let known = file.metadata()?.len();
        if known != BYTES as u64 {
            file.set_len(0)?;
            // Written and not only reserved: a store must not meet a full disk.
            file.write_all(&[0; BYTES])?;
            file.sync_all()?;
        }
        let falls = Falls::map(&file)?;
        let is_ours = falls.words()[0].load(Ordering::Relaxed) == MAGIC;
        if known != 0 && !is_ours {
            tracing::warn!(path = %path.display(), "holds no notes of falls of weights; begun anew");
        }
        let mut noted = BTreeMap::new();
        if is_ours {
            for place in falls.places() {
                match read(place) {
                    None => {}
                    Some(Ok((rollout, fall))) => drop(noted.insert(rollout, fall)),
                    Some(Err(())) => {
                        tracing::warn!(path = %path.display(), "holds a note that makes no sense; passed over");
                        place[0].store(0, Ordering::Relaxed);
                    }
                }
            }
        } else {
            falls.words()[1..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            falls.words()[0].store(MAGIC, Ordering::Release);
        }
        Ok((falls, noted))
    }

    fn map(file: &File) -> std::io::Result<Falls> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe { rustix::mm::mmap(std::ptr::null_mut(), BYTES, protection, flags, file, 0) }?;
        let memory = NonNull::new(memory.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Falls { memory })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is this long, begins at a page and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), WORDS) }
    }

    fn places(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.words()[PLACE..].chunks_exact(PLACE)
    }

    /// Notes a fall that is in force, instead of one that was noted before.
    /// Others than those that can be told again, and too many, are left out.
    pub fn note(&self, rollout: &str, fall: Fall) {
        let Some(kind) = KINDS.iter().position(|kind| *kind == fall.kind) else { return };
        let Some(name) = name_words(rollout) else { return };
        let is_free = |place: &&[AtomicU64]| place[0].load(Ordering::Relaxed) == 0;
        let Some(place) = self.place_of(&name).or_else(|| self.places().find(is_free)) else { return };
        // The first word of the name says that there is a note: it goes first and
        // comes back last.
        place[0].store(0, Ordering::Release);
        let said = [kind as u64, u64::from(fall.parts), fall.at.0];
        let check = check(&name, &said);
        let words = name.iter().chain(&said).chain([&check]);
        place.iter().zip(words).skip(1).for_each(|(place, word)| place.store(*word, Ordering::Release));
        place[0].store(name[0], Ordering::Release);
    }

    /// The journal has it.
    pub fn forget(&self, rollout: &str) {
        if let Some(place) = name_words(rollout).and_then(|name| self.place_of(&name)) {
            place[0].store(0, Ordering::Release);
        }
    }

    pub fn forget_all(&self) {
        self.places().for_each(|place| place[0].store(0, Ordering::Release));
    }

    fn place_of(&self, name: &[u64; NAME]) -> Option<&[AtomicU64]> {
        let same = |place: &&[AtomicU64]| {
            place.iter().zip(name).all(|(place, word)| place.load(Ordering::Relaxed) == *word)
        };
        self.places().find(same)
    }
}

impl Drop for Falls {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the mapping any more. What it holds
        // is in the file whatever comes of this.
        let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), BYTES) };
    }
}

/// Names have at most 63 bytes, so a zero ends them.
fn name_words(name: &str) -> Option<[u64; NAME]> {
    let mut bytes = [0; NAME * size_of::<u64>()];
    bytes.get_mut(..name.len()).filter(|_| !name.is_empty())?.copy_from_slice(name.as_bytes());
    let mut words = bytes.chunks_exact(size_of::<u64>());
    Some(std::array::from_fn(|_| {
        let word = words.next().and_then(|word| word.try_into().ok());
        u64::from_le_bytes(word.unwrap_or_default())
    }))
}

/// `None` where nothing is noted.
fn read(place: &[AtomicU64]) -> Option<Result<(String, Fall), ()>> {
    let word = |at: usize| place[at].load(Ordering::Acquire);
    if word(0) == 0 {
        return None;
    }
    let name: [u64; NAME] = std::array::from_fn(word);
    let said: [u64; 3] = std::array::from_fn(|at| word(NAME + at));
    let bytes: Vec<u8> =
        name.iter().flat_map(|word| word.to_le_bytes()).take_while(|byte| *byte != 0).collect();
    let fall = || {
        let kind = *KINDS.get(usize::try_from(said[0]).ok()?)?;
        let fall = Fall { at: Moment(said[2]), kind, parts: u32::try_from(said[1]).ok()? };
        Some((String::from_utf8(bytes).ok()?, fall))
    };
    let whole = word(NAME + 3) == check(&name, &said);
    Some(whole.then(fall).flatten().ok_or(()))
}

/// FNV-1a over the words: tells a note from what happens to lie there.
fn check(name: &[u64; NAME], said: &[u64; 3]) -> u64 {
    let bytes = name.iter().chain(said).flat_map(|word| word.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325 ^ MAGIC, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fall(at: u64, parts: u32) -> Fall {
        Fall { at: Moment(at), kind: EventKind::RolledBack, parts }
    }

    fn noted(directory: &Path) -> BTreeMap<String, Fall> {
        Falls::open(directory).unwrap().1
    }

    #[test]
    fn what_is_noted_and_not_forgotten_is_there_for_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let (falls, before) = Falls::open(directory.path()).unwrap();
        assert!(before.is_empty());
        let long = "r".repeat(63);
        for (rollout, parts) in [("web", 500), ("api", 20), (long.as_str(), 0), ("web", 100)] {
            falls.note(rollout, fall(7, parts));
        }
        falls.note("api", Fall { kind: EventKind::Promoted, ..fall(8, 3) });
        falls.forget("api");
        let expected = BTreeMap::from([(long.clone(), fall(7, 0)), ("web".to_owned(), fall(7, 100))]);
        // Read while it is still open elsewhere: the page is shared.
        assert_eq!(noted(directory.path()), expected);
        drop(falls);
        assert_eq!(noted(directory.path()), expected);
        Falls::open(directory.path()).unwrap().0.forget_all();
        assert!(noted(directory.path()).is_empty());
    }

    #[test]
    fn more_than_fit_are_left_out_and_places_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let (falls, _) = Falls::open(directory.path()).unwrap();
        (0..100).for_each(|n| falls.note(&format!("r{n}"), fall(1, n)));
        assert_eq!(noted(directory.path()).len(), PLACES);
        falls.forget("r5");
        falls.note("r99", fall(1, 99));
        assert!(noted(directory.path()).contains_key("r99"));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        Falls::open(directory.path()).unwrap().0.note("web", fall(7, 100));
        let path = directory.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        let used = PLACE * 8..(PLACE + NAME + 4) * 8;
        for at in used {
            let mut bytes = good.clone();
            bytes[at] ^= 0x41;
            std::fs::write(&path, &bytes).unwrap();
            assert!(noted(directory.path()).is_empty(), "byte {at}");
        }
        for alien in [&b""[..], b"short", &[0xff; BYTES], &[0; BYTES], &[1; BYTES + 1]] {
            std::fs::write(&path, alien).unwrap();
            assert!(noted(directory.path()).is_empty());
            let (falls, _) = Falls::open(directory.path()).unwrap();
            falls.note("web", fall(8, 0));
            assert_eq!(noted(directory.path()).get("web"), Some(&fall(8, 0)), "it is in use again");
        }
    }
}
