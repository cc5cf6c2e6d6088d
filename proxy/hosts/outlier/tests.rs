//! Ejection against the sequences that Envoy was seen to follow, and its bounds.

use super::*;
use std::time::Duration;

const SECOND: u64 = 1_000_000;

/// A version whose endpoints are judged, with a die that always shows `die`.
struct Court {
    outlier: Outlier,
    records: Vec<Record>,
    counted: Vec<Counted>,
    now_us: u64,
    die: u64,
}

impl Court {
    fn of(endpoints: usize, outlier: Outlier) -> Court {
        let records = vec![Record::default(); endpoints];
        Court { outlier, records, counted: vec![Counted::default(); endpoints], now_us: SECOND, die: 0 }
    }

    fn bench<T>(&mut self, act: impl FnOnce(&mut Bench<'_>) -> T) -> T {
        let die = self.die;
        let records = self.records.iter_mut().collect();
        let mut random = || die;
        act(&mut Bench { outlier: &self.outlier, records, now_us: self.now_us, random: &mut random })
    }

    fn find(&mut self, endpoint: usize, cause: Cause) -> Ruling {
        self.bench(|bench| bench.find(endpoint, cause))
    }

    fn look(&mut self) -> Vec<Event> {
        let counted = self.counted.clone();
        self.bench(|bench| bench.look(&counted))
    }

    fn serve(&mut self, endpoint: usize, good: u64, bad: u64) {
        let share = &mut self.counted[endpoint].requests;
        share.good += good;
        share.total += good + bad;
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.records.len()).filter(|index| self.records[*index].ejected.is_some()).collect()
    }
}

/// As Envoy 1.40 was seen to do it, `always_eject_one_host` included.
#[test]
fn no_more_than_the_percentage_is_ejected() {
    for (endpoints, percent, always, expected) in [
        (10, 10, false, 1),
        (9, 10, false, 0),
        (1, 10, true, 1),
        (2, 10, true, 1),
        (4, 50, false, 2),
        (3, 34, false, 1),
        (3, 33, false, 0),
        (3, 100, false, 3),
        (3, 0, false, 0),
    ] {
        let outlier =
            Outlier { max_ejection_percent: percent, always_eject_one: always, ..Outlier::default() };
        let mut court = Court::of(endpoints, outlier);
        let rulings: Vec<Ruling> = (0..endpoints).map(|one| court.find(one, Cause::Consecutive5xx)).collect();
        assert_eq!(court.ejected().len(), expected, "{endpoints} endpoints, {percent} percent");
        let spared = rulings.iter().filter(|ruling| **ruling == Ruling::Spared).count();
        assert_eq!(spared, endpoints - expected);
    }
}

#[test]
fn a_percentage_of_findings_is_enforced() {
    let mut court = Court::of(1, Outlier::default());
    assert_eq!(court.find(0, Cause::ConsecutiveGatewayFailure), Ruling::Noticed, "off by default");
    court.outlier.consecutive_gateway_failure.enforcing = 40;
    court.die = 40;
    assert_eq!(court.find(0, Cause::ConsecutiveGatewayFailure), Ruling::Noticed);
    court.die = 39;
    assert_eq!(court.find(0, Cause::ConsecutiveGatewayFailure), Ruling::Ejected);
    assert_eq!(court.find(0, Cause::Consecutive5xx), Ruling::Known);
    assert_eq!(court.records[0].ejections, 1);
}

fn short() -> Outlier {
    Outlier {
        interval: Duration::from_secs(1),
        base_ejection_time: Duration::from_secs(5),
        max_ejection_time: Duration::from_secs(12),
        max_ejection_percent: 100,
        ..Outlier::default()
    }
}

/// How many seconds the endpoint is away, looked at every second.
fn term(court: &mut Court) -> u64 {
    assert_eq!(court.find(0, Cause::Consecutive5xx), Ruling::Ejected);
    for seconds in 1..100 {
        court.now_us += SECOND;
        if court.look().contains(&Event::Returned { endpoint: 0 }) {
            return seconds;
        }
    }
    panic!("it never returned")
}

#[test]
fn each_ejection_is_longer_up_to_a_bound_and_good_conduct_counts() {
    let mut court = Court::of(1, short());
    assert_eq!([term(&mut court), term(&mut court), term(&mut court), term(&mut court)], [5, 10, 12, 12]);
    for _ in 0..50 {
        court.now_us += SECOND;
        court.look();
    }
    assert_eq!(term(&mut court), 5, "all is forgotten");
    court.now_us += SECOND;
    court.look();
    assert_eq!(term(&mut court), 5, "one good interval takes one step back");
}

#[test]
fn jitter_makes_an_ejection_longer() {
    let mut court = Court::of(1, Outlier { max_ejection_time_jitter: Duration::from_secs(3), ..short() });
    // The same die decides on enforcement, so it shows less than a hundred, but is large beyond.
    court.die = 100 * 2 * SECOND;
    let jitter_us = court.die % (3 * SECOND + 1);
    assert_eq!(term(&mut court), 5 + jitter_us.div_ceil(SECOND));
}

#[test]
fn who_is_far_below_the_mean_is_ejected() {
    let mut court = Court::of(5, Outlier { max_ejection_percent: 50, ..Outlier::default() });
    court.serve(0, 50, 50);
    (1..5).for_each(|endpoint| court.serve(endpoint, 100, 0));
    // Mean 90, deviation 20, so the bound is 52.
    let ejected = Ruling::Ejected;
    assert_eq!(court.look(), [Event::Found { endpoint: 0, cause: Cause::SuccessRate, ruling: ejected }]);
    assert_eq!(court.records[0].success_rate, Some(50.0));
    assert_eq!(court.look(), [], "no new requests, nothing to compare");
    assert_eq!(court.records[1].success_rate, None);
}

#[test]
fn a_little_below_the_mean_is_no_outlier() {
    let mut court = Court::of(5, Outlier { max_ejection_percent: 50, ..Outlier::default() });
    for endpoint in 0..5 {
        court.serve(endpoint, 100 - endpoint as u64, endpoint as u64);
    }
    assert_eq!(court.look(), []);
}

#[test]
fn too_few_requests_or_endpoints_are_not_compared() {
    let mut court = Court::of(5, Outlier { max_ejection_percent: 50, ..Outlier::default() });
    court.serve(0, 40, 59);
    (1..5).for_each(|endpoint| court.serve(endpoint, 100, 0));
    assert_eq!(court.look(), [], "one has too few requests, so only four are left");
    let mut court = Court::of(4, Outlier { max_ejection_percent: 50, ..Outlier::default() });
    court.serve(0, 300, 700);
    (1..4).for_each(|endpoint| court.serve(endpoint, 1000, 0));
    assert_eq!(court.look(), []);
}

#[test]
fn a_failure_percentage_needs_no_comparison() {
    let mut outlier = Outlier { max_ejection_percent: 100, ..Outlier::default() };
    outlier.success_rate.enforcing = 0;
    outlier.failure_percentage.enforcing = 100;
    outlier.failure_percentage.minimum_hosts = 1;
    let mut court = Court::of(3, outlier);
    court.serve(0, 15, 85);
    court.serve(1, 16, 84);
    court.serve(2, 0, 49);
    court.look();
    assert_eq!(court.ejected(), [0], "at the threshold, below it, and with too few requests");
}

#[test]
fn failures_to_connect_are_compared_apart_where_they_are_told_apart() {
    let mut court = Court::of(5, Outlier { max_ejection_percent: 50, ..Outlier::default() });
    for endpoint in 0..5 {
        let good = if endpoint == 3 { 10 } else { 100 };
        court.counted[endpoint].local_origin = Share { good, total: 100 };
        court.serve(endpoint, 100, 0);
    }
    let cause = Cause::SuccessRateLocalOrigin;
    assert_eq!(court.look(), [Event::Found { endpoint: 3, cause, ruling: Ruling::Ejected }]);
    assert_eq!(court.records[3].local_origin_success_rate, Some(10.0));
}

#[test]
fn lessons_are_marked_by_mode() {
    use Lesson::{Answered, Late, Unreached};
    use Reply::{GatewayFailure, Good, ServerError};
    for (lesson, reply, reached) in [
        (Answered(200), Good, true),
        (Answered(404), Good, true),
        (Answered(500), ServerError, true),
        (Answered(502), GatewayFailure, true),
        (Answered(504), GatewayFailure, true),
        (Answered(505), ServerError, true),
        (Unreached, GatewayFailure, false),
        (Late, GatewayFailure, false),
    ] {
        assert_eq!(mark(false, lesson), Mark { reply: Some(reply), reached: None }, "{lesson:?}");
        let apart = Mark { reply: Some(reply).filter(|_| reached), reached: Some(reached) };
        assert_eq!(mark(true, lesson), apart, "{lesson:?}");
    }
}

#[test]
fn a_row_is_told_when_it_is_full_and_only_then() {
    let outlier = Outlier::default();
    let full = |server_errors, gateway_failures, local_origin, split, lesson| {
        let rows = Rows { server_errors, gateway_failures, local_origin };
        rows.full(&outlier, mark(split, lesson)).into_iter().flatten().collect::<Vec<_>>()
    };
    let (gateway, server) = (Lesson::Answered(503), Lesson::Answered(500));
    assert_eq!(full(4, 4, 0, false, gateway), []);
    assert_eq!(full(5, 5, 0, false, gateway), [Cause::ConsecutiveGatewayFailure, Cause::Consecutive5xx]);
    assert_eq!(full(6, 6, 0, false, gateway), []);
    assert_eq!(full(5, 5, 0, false, server), [Cause::Consecutive5xx]);
    assert_eq!(full(5, 5, 5, true, Lesson::Answered(200)), []);
    assert_eq!(full(0, 0, 5, true, Lesson::Unreached), [Cause::ConsecutiveLocalOriginFailure]);
    assert_eq!(full(5, 5, 0, false, Lesson::Unreached).len(), 2, "together they are answers");
}
