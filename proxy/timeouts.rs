//! How long a request may take, as its route says; in microseconds, and zero
//! for no bound.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use crate::clock;
use crate::fault::Kind;
use crate::model::Route;

#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// To the answer's head, waiting for the client not counted.
    pub head_us: u64,
    /// Longest silence.
    pub idle_us: u64,
    /// From the end of the request to the end of the answer.
    pub total_us: u64,
    /// From the beginning to the end, whoever is slow.
    pub life_us: u64,
    /// A life that the client itself has bounded.
    pub by_client: bool,
    /// To the answer's head, of one attempt.
    pub try_us: u64,
    pub try_idle_us: u64,
    /// No bound: an answer that ends later counts as a failure.
    pub fails_after_us: u64,
}

impl Timeouts {
    pub fn of(route: &Route) -> Timeouts {
        let us = |time: Option<std::time::Duration>| time.map_or(0, clock::us);
        Timeouts {
            head_us: us(route.request_timeout),
            idle_us: us(route.idle_timeout),
            total_us: us(route.timeouts.total),
            life_us: us(route.timeouts.duration),
            by_client: false,
            try_us: us(route.retry.as_ref().and_then(|retry| retry.per_try_timeout)),
            try_idle_us: us(route.retry.as_ref().and_then(|retry| retry.per_try_idle_timeout)),
            fails_after_us: us(route.outcome.as_ref().and_then(|rules| rules.slower_than)),
        }
    }

    /// For a gRPC request that says (or does not say) how long its caller waits:
    /// that alone counts, up to `most_us`; without a word there is no bound.
    pub fn said_by_grpc(self, said: Option<&[u8]>, most_us: u64) -> Timeouts {
        let said_us = said.and_then(grpc_timeout_us);
        let life_us = match (said_us, most_us) {
            (Some(said_us), 0) => said_us,
            (Some(said_us), most_us) => said_us.min(most_us),
            (None, most_us) => most_us,
        };
        Timeouts { head_us: 0, total_us: 0, life_us, by_client: true, ..self }
    }

    pub fn bounds_tries(&self) -> bool {
        self.try_us != 0 || self.try_idle_us != 0
    }

    /// What it is called when the life is over.
    pub fn end_of_life(&self) -> Kind {
        if self.by_client { Kind::Timeout } else { Kind::MaxDuration }
    }
}

/// At most eight digits and a unit (gRPC over HTTP/2).
fn grpc_timeout_us(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => number * 3_600_000_000,
        b'M' => number * 60_000_000,
        b'S' => number * 1_000_000,
        b'm' => number * 1_000,
        b'u' => number,
        // Never zero, which would mean for ever.
        b'n' => (number / 1_000).max(1),
        _ => return None,
    })
    .map(|us: u64| us.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_says_its_timeout_in_a_unit() {
        for (said, us) in
            [("1S", 1_000_000), ("20m", 20_000), ("5u", 5), ("1500n", 1), ("0S", 1), ("2H", 7_200_000_000)]
        {
            assert_eq!(grpc_timeout_us(said.as_bytes()), Some(us), "{said}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "1 S"] {
            assert_eq!(grpc_timeout_us(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_callers_word_counts_up_to_the_bound() {
        let route = Timeouts { head_us: 5, total_us: 6, idle_us: 7, ..Timeouts::default() };
        let life = |said, most| route.said_by_grpc(said, most).life_us;
        assert_eq!(life(Some(&b"2S"[..]), 0), 2_000_000);
        assert_eq!(life(Some(&b"2S"[..]), 1_000_000), 1_000_000);
        assert_eq!((life(None, 1_000_000), life(None, 0)), (1_000_000, 0));
        let said = route.said_by_grpc(None, 0);
        assert_eq!((said.head_us, said.total_us, said.idle_us), (0, 0, 7));
    }
}
