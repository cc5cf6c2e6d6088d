//! A judge for compatibility, with traffic second by second on a virtual clock.

use std::time::Duration;

use serin::clock::Moment;
use serin::judge::checks::Advice;
use serin::judge::checks::Checks;
use serin::judge::checks::Terms;
use serin::judge::evidence::ArmDelta;
use serin::judge::evidence::Evidence;
use serin::judge::evidence::GenerationDelta;
use serin::judge::samples::Arm;
use serin::judge::samples::Outside;
use serin::judge::samples::Sample;
use serin_proxy::histogram::index;

pub struct Stage {
    pub checks: Checks,
    pub latency_us: u64,
    now: Moment,
    second: u64,
    outside: Vec<Outside>,
}

impl Stage {
    pub fn new(terms: &Terms) -> Stage {
        Stage::lasting(terms, Duration::from_secs(24 * 3600), None)
    }

    pub fn lasting(terms: &Terms, planned: Duration, before: Option<&Checks>) -> Stage {
        let now = Moment(1_700_000_000_000);
        let checks = Checks::new(terms, planned, before, now);
        let mut stage = Stage { checks, latency_us: 1_000, now, second: 0, outside: Vec::new() };
        // The look of the start itself.
        assert_eq!(stage.look((0, 0), (0, 0)), Advice::Wait);
        stage
    }

    /// So many good and bad answers of the canary each second, the primary's all
    /// good. Tells what was advised when, the seconds counted from the start.
    pub fn play(&mut self, seconds: u64, canary: (u64, u64)) -> Vec<(u64, Advice)> {
        self.play_both(seconds, canary, (canary.0 + canary.1, 0))
    }

    pub fn play_both(&mut self, seconds: u64, canary: (u64, u64), primary: (u64, u64)) -> Vec<(u64, Advice)> {
        let mut found = Vec::new();
        for _ in 0..seconds {
            self.leap(Duration::from_secs(1));
            let advice = self.look(canary, primary);
            if advice != Advice::Wait {
                found.push((self.second, advice));
            }
        }
        found
    }

    /// What somebody else says from the next look on, once.
    pub fn say(&mut self, name: &str, arm: Arm, sample: Sample) {
        self.outside.push(Outside { name: name.to_owned(), arm, at: Moment::default(), sample });
    }

    /// Time passes and nobody looks.
    pub fn leap(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.second += time.as_secs();
    }

    /// The process is down for so long, and goes on from what was written.
    pub fn restart(&mut self, down: Duration) {
        let text = serde_json::to_string(&self.checks).expect("plain data");
        let read: Checks = serde_json::from_str(&text).expect("what was written reads back");
        assert_eq!(read, self.checks);
        self.checks = read;
        self.now = self.now.after(down);
        self.checks.resume(self.now);
    }

    fn look(&mut self, canary: (u64, u64), primary: (u64, u64)) -> Advice {
        let arm = |(ok, failed): (u64, u64)| ArmDelta {
            dispatched: ok + failed,
            ok,
            failed,
            latency: if ok > 0 { vec![(index(self.latency_us) as u32, ok)] } else { Vec::new() },
            ..ArmDelta::default()
        };
        let delta = GenerationDelta {
            id: 1,
            w: 0.5,
            canary: arm(canary),
            primary: arm(primary),
            ..GenerationDelta::default()
        };
        let said = |outside| Outside { at: self.now, ..outside };
        let outside = std::mem::take(&mut self.outside).into_iter().map(said).collect();
        let evidence = Evidence { generations: vec![delta], outside, ..Evidence::default() };
        self.checks.look(self.now, &evidence)
    }
}
