//! Faults put in on purpose, before any version is chosen: they count against
//! nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;

use crate::head::Head;
use crate::model::AbortWith;
use crate::model::Faults;
use crate::reply;
use crate::reply::Reply;

const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
/// No request is held longer than this, whatever its header says.
const LONGEST: Duration = Duration::from_secs(3600);

pub struct Inject {
    faults: Faults,
    active: AtomicUsize,
}

/// What is to be done to a request.
#[derive(Default)]
pub struct Injected<'i> {
    pub delay: Option<Duration>,
    pub abort: Option<Reply>,
    _active: Option<Active<'i>>,
}

/// A place among the faults under way.
struct Active<'i>(&'i AtomicUsize);

impl Inject {
    pub fn new(faults: &Faults) -> Result<Inject, String> {
        if let Some(AbortWith::Status(status)) = faults.abort.as_ref().map(|abort| abort.with)
            && !(200..=599).contains(&status)
        {
            return Err(format!("an abort answers with a status from 200 to 599, not {status}"));
        }
        Ok(Inject { faults: faults.clone(), active: AtomicUsize::new(0) })
    }

    /// The conditions have been asked already.
    pub fn toss(&self, head: &Head<'_>, mut random: impl FnMut() -> u64) -> Injected<'_> {
        let mut one_of = |per_million: u32, share: &HeaderName, by_header: bool| {
            let asked =
                number(head, share).filter(|_| by_header).map(|percent| percent.saturating_mul(10_000));
            random() % 1_000_000 < u64::from(per_million).min(asked.unwrap_or(u64::MAX))
        };
        let delay = self.faults.delay.as_ref().and_then(|delay| {
            let time = delay.time.or_else(|| number(head, &DELAY).map(Duration::from_millis))?;
            one_of(delay.per_million, &DELAY_SHARE, delay.time.is_none()).then_some(time.min(LONGEST))
        });
        let abort = self.faults.abort.as_ref().and_then(|abort| {
            let (status, grpc) = match abort.with {
                AbortWith::Status(status) => (StatusCode::from_u16(status).ok()?, None),
                AbortWith::Grpc(code) => (reply::http_status(code), Some(code)),
                AbortWith::Header => asked(head)?,
            };
            let tossed = one_of(abort.per_million, &ABORT_SHARE, abort.with == AbortWith::Header);
            tossed.then(|| {
                let body = Bytes::from_static(b"fault filter abort");
                Reply { grpc_status: grpc, ..Reply::new(status, body).with_cause("fault-injected") }
            })
        });
        if delay.is_none() && abort.is_none() {
            return Injected::default();
        }
        match self.enter() {
            Some(active) => Injected { delay, abort, _active: Some(active) },
            None => Injected::default(),
        }
    }

    fn enter(&self) -> Option<Active<'_>> {
        let active = Active(&self.active);
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        // Dropped again where it is one too many.
        self.faults.max_active.is_none_or(|most| before < most).then_some(active)
    }
}

/// What the request itself asks to be aborted with.
fn asked(head: &Head<'_>) -> Option<(StatusCode, Option<u32>)> {
    if let Some(status) = number(head, &ABORT) {
        let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status))?;
        return Some((StatusCode::from_u16(status).ok()?, None));
    }
    let code = u32::try_from(number(head, &ABORT_GRPC)?).ok()?;
    Some((reply::http_status(code), Some(code)))
}

fn number(head: &Head<'_>, name: &HeaderName) -> Option<u64> {
    std::str::from_utf8(head.field(name)?).ok()?.parse().ok()
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
