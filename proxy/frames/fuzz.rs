//! What must hold of the count for any bytes: how they are cut changes nothing,
//! and it comes to what is counted of whole frames.

use super::*;

/// How far a short input may be repeated, so that a flood is within reach.
const LONGEST: usize = 512 * 1024;

/// A step, how often the rest is said, and what the client says.
pub fn frames(bytes: &[u8]) {
    let [step, times, said @ ..] = bytes else { return };
    let times = (usize::from(*times).pow(2) + 1).min(LONGEST / said.len().max(1));
    let said = said.repeat(times);
    let now_us = clock::now_us();
    let read = |step: usize| {
        let mut frames = Frames::new();
        frames.skip = 0;
        said.chunks(step.max(1)).try_for_each(|piece| frames.read_at(piece, now_us))
    };
    let whole = read(said.len());
    assert_eq!(whole, read(usize::from(*step)), "cut by {step}");
    assert_eq!(whole, counted(&said));
}

/// By a reader who has all of it, at one moment.
fn counted(mut said: &[u8]) -> Result<(), Flood> {
    let (mut control, mut updates, mut resets, mut empty) = (0, 0, 0, 0);
    while let Some(([a, b, c, kind, flags, ..], rest)) = said.split_first_chunk::<HEAD>() {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        said = &rest[length.min(rest.len())..];
        let ends = flags & END_STREAM != 0 && *kind != CONTINUATION;
        let carries = [DATA, HEADERS, CONTINUATION].contains(kind);
        empty = if carries && length == 0 && !ends { empty + 1 } else { 0 };
        match *kind {
            // Each gives half a reset back, of those that were taken.
            HEADERS => resets = (resets - 1).max(0),
            RST_STREAM => resets += 2,
            WINDOW_UPDATE => updates += 1,
            DATA | CONTINUATION => {}
            _ => control += 1,
        }
        let over = [
            (empty > EMPTY, "empty frames"),
            (resets > 2 * RESETS, "resets"),
            (updates > UPDATES, "window updates"),
            (control > CONTROL, "control frames"),
        ];
        if let Some((_, what)) = over.into_iter().find(|(over, _)| *over) {
            return Err(Flood(what));
        }
    }
    Ok(())
}
