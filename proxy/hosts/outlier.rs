//! Which endpoint of a version fails its users so much that it is left alone for
//! a while, and when it is tried again. Pure: time, counts and dice are passed
//! in, and what follows comes back. The rules are Envoy's, number by number.

use crate::clock;
use crate::model::Outlier;
use crate::model::Threshold;

/// Why an endpoint was ejected, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    SuccessRateLocalOrigin,
    FailurePercentage,
    FailurePercentageLocalOrigin,
}

impl Cause {
    pub const ALL: [Cause; 7] = [
        Cause::Consecutive5xx,
        Cause::ConsecutiveGatewayFailure,
        Cause::ConsecutiveLocalOriginFailure,
        Cause::SuccessRate,
        Cause::SuccessRateLocalOrigin,
        Cause::FailurePercentage,
        Cause::FailurePercentageLocalOrigin,
    ];

    /// One bit for each.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Consecutive5xx => "consecutive_5xx",
            Cause::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Cause::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Cause::SuccessRate => "success_rate",
            Cause::SuccessRateLocalOrigin => "local_origin_success_rate",
            Cause::FailurePercentage => "failure_percentage",
            Cause::FailurePercentageLocalOrigin => "local_origin_failure_percentage",
        }
    }

    /// Of a hundred such findings so many are acted on.
    fn enforcing(self, outlier: &Outlier) -> u32 {
        match self {
            Cause::Consecutive5xx => outlier.consecutive_5xx.enforcing,
            Cause::ConsecutiveGatewayFailure => outlier.consecutive_gateway_failure.enforcing,
            Cause::ConsecutiveLocalOriginFailure => outlier.consecutive_local_origin_failure.enforcing,
            Cause::SuccessRate => outlier.success_rate.enforcing,
            Cause::SuccessRateLocalOrigin => outlier.success_rate.enforcing_local_origin,
            Cause::FailurePercentage => outlier.failure_percentage.enforcing,
            Cause::FailurePercentageLocalOrigin => outlier.failure_percentage.enforcing_local_origin,
        }
    }
}

/// What one attempt taught about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It answered with this status.
    Answered(u16),
    /// It could not be reached, or broke the connection.
    Unreached,
    Late,
}

/// Failures in a row, counted over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub server_errors: u32,
    pub gateway_failures: u32,
    pub local_origin: u32,
}

/// Requests and connections of one endpoint since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub requests: Share,
    /// Where failures to connect are counted for themselves.
    pub local_origin: Share,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub good: u64,
    pub total: u64,
}

impl Share {
    fn since(self, before: Share) -> Share {
        Share { good: self.good.saturating_sub(before.good), total: self.total.saturating_sub(before.total) }
    }

    fn percent(self) -> Option<f64> {
        (self.total > 0).then(|| 100.0 * self.good as f64 / self.total as f64)
    }
}

/// What a lesson is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// As an answer; `None` where failures to reach it are counted for themselves.
    pub reply: Option<Reply>,
    pub reached: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Good,
    ServerError,
    GatewayFailure,
}

/// A fault of ours on the way to the endpoint is an answer like any other,
/// unless the two are to be kept apart.
pub fn mark(split_local_origin: bool, lesson: Lesson) -> Mark {
    let reply = match lesson {
        Lesson::Answered(502..=504) => Some(Reply::GatewayFailure),
        Lesson::Answered(500..) => Some(Reply::ServerError),
        Lesson::Answered(_) => Some(Reply::Good),
        Lesson::Unreached | Lesson::Late => (!split_local_origin).then_some(Reply::GatewayFailure),
    };
    let reached = split_local_origin.then_some(matches!(lesson, Lesson::Answered(_)));
    Mark { reply, reached }
}

impl Rows {
    /// Which rows have just become long enough by a lesson of this mark. Compared
    /// for equality, so that a longer row is told once.
    pub fn full(&self, outlier: &Outlier, mark: Mark) -> [Option<Cause>; 3] {
        let full = |counts: bool, row: u32, threshold: Threshold, cause| {
            (counts && threshold.count != 0 && row == threshold.count).then_some(cause)
        };
        let gateway = mark.reply == Some(Reply::GatewayFailure);
        let server = gateway || mark.reply == Some(Reply::ServerError);
        let unreached = mark.reached == Some(false);
        let Outlier { consecutive_gateway_failure, consecutive_local_origin_failure, .. } = *outlier;
        let (by_gateway, by_origin) =
            (Cause::ConsecutiveGatewayFailure, Cause::ConsecutiveLocalOriginFailure);
        [
            full(gateway, self.gateway_failures, consecutive_gateway_failure, by_gateway),
            full(server, self.server_errors, outlier.consecutive_5xx, Cause::Consecutive5xx),
            full(unreached, self.local_origin, consecutive_local_origin_failure, by_origin),
        ]
    }
}

/// What is remembered of one endpoint's ejections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub ejected: Option<Ejection>,
    /// Ejections so far.
    pub ejections: u64,
    /// How often the base time is taken the next time, but for one; falls while
    /// the endpoint does well.
    backoff: u32,
    returned_us: Option<u64>,
    counted: Counted,
    /// Percentages of the last interval, where there were enough requests.
    pub success_rate: Option<f64>,
    pub local_origin_success_rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    pub cause: Cause,
    pub since_us: u64,
    jitter_us: u64,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Ejected,
    /// Found, but by its percentage not acted on.
    Noticed,
    /// Too many are ejected already.
    Spared,
    /// It is ejected already.
    Known,
}

impl Ruling {
    pub const COUNTED: [Ruling; 3] = [Ruling::Ejected, Ruling::Noticed, Ruling::Spared];

    pub fn as_str(self) -> &'static str {
        match self {
            Ruling::Ejected => "ejected",
            Ruling::Noticed => "not_enforced",
            Ruling::Spared => "spared",
            Ruling::Known => "known",
        }
    }
}

/// What an interval brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Found { endpoint: usize, cause: Cause, ruling: Ruling },
    Returned { endpoint: usize },
}

impl Record {
    /// Ends an ejection, be it before its time. Whether there was one.
    pub fn forgive(&mut self, now_us: u64) -> bool {
        let ejected = self.ejected.take().is_some();
        if ejected {
            self.returned_us = Some(now_us);
        }
        ejected
    }
}

/// The endpoints of one version that are compared with each other.
pub struct Bench<'a> {
    pub outlier: &'a Outlier,
    pub records: Vec<&'a mut Record>,
    pub now_us: u64,
    pub random: &'a mut dyn FnMut() -> u64,
}

impl Bench<'_> {
    /// An endpoint was found to be an outlier.
    pub fn find(&mut self, endpoint: usize, cause: Cause) -> Ruling {
        let outlier = self.outlier;
        if self.records[endpoint].ejected.is_some() {
            return Ruling::Known;
        }
        let ejected = self.records.iter().filter(|record| record.ejected.is_some()).count();
        let percent = 100.0 * (ejected + 1) as f64 / self.records.len() as f64;
        let spared = percent > f64::from(outlier.max_ejection_percent.min(100))
            && !(outlier.always_eject_one && ejected == 0);
        if spared {
            return Ruling::Spared;
        }
        if (self.random)() % 100 >= u64::from(cause.enforcing(outlier)) {
            return Ruling::Noticed;
        }
        let jitter = clock::us(outlier.max_ejection_time_jitter);
        let ejection = Ejection { cause, since_us: self.now_us, jitter_us: (self.random)() % (jitter + 1) };
        let base_us = clock::us(outlier.base_ejection_time);
        let record = &mut *self.records[endpoint];
        if u64::from(record.backoff).saturating_mul(base_us) < longest_us(outlier).saturating_add(base_us) {
            record.backoff += 1;
        }
        record.ejected = Some(ejection);
        record.ejections += 1;
        Ruling::Ejected
    }

    /// Looks through all endpoints once; `counted` is what each has done since the
    /// process began.
    pub fn look(&mut self, counted: &[Counted]) -> Vec<Event> {
        let mut events = Vec::new();
        for endpoint in 0..self.records.len() {
            if self.has_served(endpoint) && self.records[endpoint].forgive(self.now_us) {
                events.push(Event::Returned { endpoint });
            }
        }
        let mut fresh = Vec::with_capacity(counted.len());
        for (record, now) in self.records.iter_mut().zip(counted) {
            let before = std::mem::replace(&mut record.counted, *now);
            fresh.push(Counted {
                requests: now.requests.since(before.requests),
                local_origin: now.local_origin.since(before.local_origin),
            });
        }
        let requests: Vec<Share> = fresh.iter().map(|counted| counted.requests).collect();
        let local: Vec<Share> = fresh.iter().map(|counted| counted.local_origin).collect();
        self.remember(&requests, &local);
        self.compare(&requests, Cause::SuccessRate, Cause::FailurePercentage, &mut events);
        let (rate, share) = (Cause::SuccessRateLocalOrigin, Cause::FailurePercentageLocalOrigin);
        self.compare(&local, rate, share, &mut events);
        self.calm();
        events
    }

    fn has_served(&self, endpoint: usize) -> bool {
        let record = &self.records[endpoint];
        let Some(ejection) = record.ejected else { return false };
        let base_us = clock::us(self.outlier.base_ejection_time);
        let term_us = base_us.saturating_mul(u64::from(record.backoff)).min(longest_us(self.outlier));
        term_us.saturating_add(ejection.jitter_us) <= self.now_us.saturating_sub(ejection.since_us)
    }

    fn remember(&mut self, requests: &[Share], local: &[Share]) {
        let outlier = self.outlier;
        let least = outlier.success_rate.request_volume.min(outlier.failure_percentage.request_volume);
        let rate = |share: Share| share.percent().filter(|_| share.total >= u64::from(least));
        for ((record, requests), local) in self.records.iter_mut().zip(requests).zip(local) {
            record.success_rate = rate(*requests);
            record.local_origin_success_rate = rate(*local);
        }
    }

    fn compare(&mut self, shares: &[Share], rate: Cause, percentage: Cause, events: &mut Vec<Event>) {
        let outlier = self.outlier;
        let with = |records: &[&mut Record], volume: u32| -> Vec<(usize, f64)> {
            let enough = |share: &Share| share.total >= u64::from(volume);
            let free = |endpoint: &usize| records[*endpoint].ejected.is_none();
            let shares =
                shares.iter().enumerate().filter(|(endpoint, share)| free(endpoint) && enough(share));
            shares.filter_map(|(endpoint, share)| Some((endpoint, share.percent()?))).collect()
        };
        let compared = with(&self.records, outlier.success_rate.request_volume);
        let absolute = with(&self.records, outlier.failure_percentage.request_volume);
        if !compared.is_empty() && compared.len() >= outlier.success_rate.minimum_hosts as usize {
            let least = least_success(&compared, outlier.success_rate.stdev_factor);
            for (endpoint, _) in compared.iter().filter(|(_, success)| *success < least) {
                self.note(*endpoint, rate, events);
            }
        }
        if !absolute.is_empty() && absolute.len() >= outlier.failure_percentage.minimum_hosts as usize {
            let most = f64::from(outlier.failure_percentage.threshold);
            for (endpoint, _) in absolute.iter().filter(|(_, success)| 100.0 - success >= most) {
                self.note(*endpoint, percentage, events);
            }
        }
    }

    fn note(&mut self, endpoint: usize, cause: Cause, events: &mut Vec<Event>) {
        let ruling = self.find(endpoint, cause);
        if ruling != Ruling::Known {
            events.push(Event::Found { endpoint, cause, ruling });
        }
    }

    /// Who has done well for an interval is soon ejected for a shorter time again.
    fn calm(&mut self) {
        let interval_us = clock::us(self.outlier.interval);
        for record in self.records.iter_mut().filter(|record| record.ejected.is_none()) {
            let long = |since_us: u64| self.now_us.saturating_sub(since_us) >= interval_us;
            if record.returned_us.is_some_and(long) {
                record.backoff = record.backoff.saturating_sub(1);
            }
        }
    }
}

fn longest_us(outlier: &Outlier) -> u64 {
    clock::us(outlier.max_ejection_time.max(outlier.base_ejection_time))
}

/// The mean less so many thousandths of the standard deviation.
fn least_success(rates: &[(usize, f64)], stdev_factor: u32) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - f64::from(stdev_factor) / 1000.0 * variance.sqrt()
}

#[cfg(test)]
mod tests;
