//! A rate limit: one bucket for all workers, kept as the moment at which it will
//! be full again. Touched only by requests of routes that have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use http::header::HeaderValue;

use crate::model::RateLimit;
use crate::reply::Reply;

pub struct Limit {
    pub model: RateLimit,
    status: StatusCode,
    pub bucket: Arc<Bucket>,
}

pub struct Bucket {
    /// When all tokens will be back, in nanoseconds of our clock.
    full_at_ns: AtomicU64,
    token_ns: u64,
    /// What a whole bucket takes to fill.
    whole_ns: u64,
}

/// What was left after a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub taken: bool,
    pub tokens: u64,
    /// Until there is a token again.
    pub wait_ns: u64,
}

/// What the limit makes of a request.
pub struct Verdict {
    pub marks: Vec<(HeaderName, HeaderValue)>,
    pub reply: Option<Reply>,
}

impl Limit {
    /// `bucket` goes on from a table before.
    pub fn new(model: &RateLimit, bucket: Option<Arc<Bucket>>) -> Result<Limit, String> {
        let status = StatusCode::from_u16(model.status).map_err(|_| "no HTTP status".to_owned())?;
        if model.requests == 0 || model.burst == 0 || model.per.is_zero() {
            return Err("a bucket that never fills lets nothing through".to_owned());
        }
        let bucket = bucket.unwrap_or_else(|| Arc::new(Bucket::new(model)));
        Ok(Limit { model: model.clone(), status, bucket })
    }

    pub fn judge(&self, now_us: u64, mut random: impl FnMut() -> u64) -> Verdict {
        let mut one_of = |per_million: u32| random() % 1_000_000 < u64::from(per_million);
        if !one_of(self.model.per_million) {
            return Verdict { marks: Vec::new(), reply: None };
        }
        let level = self.bucket.take(now_us * 1000);
        let refused = !level.taken && one_of(self.model.enforced_per_million);
        let reply = refused.then(|| {
            let body = Bytes::from_static(b"local_rate_limited");
            Reply::new(self.status, body).with_cause("rate-limited")
        });
        let mut marks = Vec::new();
        if self.model.tell {
            let wait_s = if level.tokens == 0 { level.wait_ns.div_ceil(1_000_000_000) } else { 0 };
            marks = vec![
                (HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(self.model.burst)),
                (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(level.tokens)),
                (HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(wait_s)),
            ];
        }
        Verdict { marks, reply }
    }
}

impl Bucket {
    fn new(model: &RateLimit) -> Bucket {
        let per_ns = u64::try_from(model.per.as_nanos()).unwrap_or(u64::MAX / 4);
        let token_ns = (per_ns / u64::from(model.requests)).max(1);
        let whole_ns = token_ns.saturating_mul(u64::from(model.burst));
        Bucket { full_at_ns: AtomicU64::new(0), token_ns, whole_ns }
    }

    fn take(&self, now_ns: u64) -> Level {
        let mut known = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let missing_ns = known.saturating_sub(now_ns);
            let after_ns = missing_ns.saturating_add(self.token_ns);
            if after_ns > self.whole_ns {
                return Level { taken: false, tokens: 0, wait_ns: after_ns - self.whole_ns };
            }
            let full_at_ns = now_ns + after_ns;
            match self.full_at_ns.compare_exchange_weak(
                known,
                full_at_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let tokens = (self.whole_ns - after_ns) / self.token_ns;
                    let wait_ns = (after_ns + self.token_ns).saturating_sub(self.whole_ns);
                    return Level { taken: true, tokens, wait_ns };
                }
                Err(now_known) => known = now_known,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_holds_its_burst_and_fills_evenly() {
        let model = RateLimit {
            requests: 10,
            per: Duration::from_secs(1),
            burst: 3,
            status: 429,
            tell: false,
            per_million: 1_000_000,
            enforced_per_million: 1_000_000,
        };
        let bucket = Bucket::new(&model);
        let ms = 1_000_000;
        let start = 5_000 * ms;
        let tokens = [2, 1, 0].map(|tokens| (true, tokens));
        for expected in tokens {
            let level = bucket.take(start);
            assert_eq!((level.taken, level.tokens), expected);
        }
        assert_eq!(bucket.take(start), Level { taken: false, tokens: 0, wait_ns: 100 * ms });
        assert!(!bucket.take(start + 99 * ms).taken);
        assert!(bucket.take(start + 100 * ms).taken);
        assert!(!bucket.take(start + 150 * ms).taken);
        assert_eq!(bucket.take(start + 10_000 * ms).tokens, 2, "no more than the burst");
    }
}
