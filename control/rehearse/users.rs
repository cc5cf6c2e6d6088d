//! Users who keep a version: each has a point that was tossed once, and a pace of his
//! own, whatever version answers him. Some come far more often than others.

use std::f64::consts::TAU;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use serin_proxy::Fresh;
use serin_proxy::weights::WHOLE;

pub struct Users {
    all: Vec<User>,
    fresh: Fresh,
}

struct User {
    point: u32,
    /// By how much his answers take longer than the version's usual ones.
    slower: f64,
    watched: bool,
    failed: bool,
}

/// One request of a user.
#[derive(Clone, Copy)]
pub struct Visit {
    pub point: u32,
    pub slower: f64,
    /// The one that counts for him.
    pub first: bool,
    user: usize,
}

impl Users {
    /// So many, whose answers take e^(normal * `spread`) times the usual.
    pub fn new(count: usize, spread: f64, random: &mut Xoshiro256PlusPlus) -> Users {
        let mut user = || {
            let (a, b) = (1.0 - random.random::<f64>(), random.random::<f64>());
            let normal = (-2.0 * a.ln()).sqrt() * (TAU * b).cos();
            let point = random.random_range(0..WHOLE);
            User { point, slower: (spread * normal).exp(), watched: false, failed: false }
        };
        Users { all: (0..count).map(|_| user()).collect(), fresh: Fresh::begin(0) }
    }

    /// Who comes next: the first of them come most often. `watching`, as the proxy does
    /// while slowness is judged.
    pub(super) fn visit(&mut self, watching: bool, random: &mut Xoshiro256PlusPlus) -> Visit {
        let at = (random.random::<f64>().powi(2) * self.all.len() as f64) as usize;
        let user = &mut self.all[at];
        let first = watching && user.point >= self.fresh.from && !user.watched;
        user.watched |= first;
        Visit { point: user.point, slower: user.slower, first, user: at }
    }

    /// The canary's share of those who count, while it has so many parts.
    pub(super) fn fresh_share(&self, parts: u32) -> f64 {
        let from = self.fresh.from;
        f64::from(parts.saturating_sub(from)) / f64::from(WHOLE - from.min(WHOLE - 1))
    }

    pub(super) fn fails_first(&mut self, visit: Visit) -> bool {
        !std::mem::replace(&mut self.all[visit.user].failed, true)
    }

    /// The canary has other weight.
    pub(super) fn shift(&mut self, before: u32, now: u32) {
        let all_on_one = |parts: u32| parts == 0 || parts == WHOLE;
        let begins = all_on_one(before) && !all_on_one(now);
        let (fresh, again) = if begins { (Fresh::begin(now), true) } else { self.fresh.on(now, 2) };
        self.fresh = fresh;
        for user in &mut self.all {
            user.watched &= !again;
            user.failed &= !begins;
        }
    }
}
