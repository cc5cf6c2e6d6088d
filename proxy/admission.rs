//! The gates of a route, in order: a preflight is answered, then a token is
//! taken, then a fault may be injected. Who is stopped here is counted against
//! no version, and no coin was tossed.

use http::HeaderMap;
use http::header::HeaderName;
use http::header::HeaderValue;

use crate::clock;
use crate::head::Head;
use crate::lane::Lane;
use crate::reply::Reply;
use crate::table::Gates;

/// What the gates put into the answer, whoever gives it.
#[derive(Default)]
pub struct Marks(Vec<(HeaderName, HeaderValue)>);

impl Marks {
    pub fn put_into(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }
}

/// Answers with what stops the request, if anything does, and whether that is
/// subject to the route's edits.
pub async fn pass(lane: &Lane, gates: &Gates, head: &Head<'_>, marks: &mut Marks) -> Option<(Reply, bool)> {
    if let Some(cors) = &gates.cors {
        let verdict = cors.judge(head);
        marks.0.extend(verdict.marks);
        if let Some(reply) = verdict.reply {
            return Some((reply, false));
        }
    }
    if let Some(limit) = &gates.limit {
        let verdict = limit.judge(clock::now_us(), || lane.random());
        marks.0.extend(verdict.marks);
        if let Some(reply) = verdict.reply {
            lane.counts.limited.add(1);
            return Some((reply, true));
        }
    }
    let (conditions, inject) = gates.inject.as_ref()?;
    if !conditions.hold(head, 0) {
        return None;
    }
    let injected = inject.toss(head, || lane.random());
    if let Some(delay) = injected.delay {
        lane.counts.delayed.add(1);
        tokio::time::sleep(delay).await;
    }
    let reply = injected.abort?;
    lane.counts.aborted.add(1);
    Some((reply, true))
}
