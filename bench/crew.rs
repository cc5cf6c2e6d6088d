//! Much of the same over all cores: each piece by its number, the results in that order, so that they do
//! not depend on how many cores there are. How far it is stands on stderr.

use std::io::IsTerminal;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;

use crate::machine;

pub fn each<T: Send>(what: &str, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let taking = |tells: bool| {
        let (mut done, mut told) = (Vec::new(), Instant::now());
        loop {
            let at = next.fetch_add(1, Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, work(at)));
            if tells && told.elapsed() >= pace() {
                tell(what, at, count);
                told = Instant::now();
            }
        }
    };
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let taking = &taking;
        let hands: Vec<_> =
            (0..machine::cores()).map(|hand| scope.spawn(move || taking(hand == 0))).collect();
        let done = hands.into_iter().map(|hand| hand.join().expect("a panic has ended the run"));
        done.flatten().collect()
    });
    tell(what, count, count);
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Where nobody sees a line change, a new one now and then is enough.
fn pace() -> Duration {
    Duration::from_millis(if std::io::stderr().is_terminal() { 200 } else { 30_000 })
}

fn tell(what: &str, done: usize, count: usize) {
    let (begin, end) = if std::io::stderr().is_terminal() { ("\r", "") } else { ("", "\n") };
    eprint!("{begin}{what}: {done} of {count}{end}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_their_numbers() {
        let squares = each("squares", 1_000, |at| at * at);
        assert_eq!(squares, (0..1_000).map(|at| at * at).collect::<Vec<_>>());
        assert!(each("nothing", 0, |at| at).is_empty());
    }
}
