//! Answers to compare: of the primary's requests that are mirrored, a few are asked
//! three times more, of the primary, of the primary again, and of the mirror's version.
//!
//! None of the three is the user's request or its mirrored copy, so neither is touched,
//! waits or keeps memory for it. And the three are alike in all but whom they go to:
//! asked at once, in an order that is drawn, by the same way. So a version that answers
//! as the primary does is as likely to differ from the first answer as the primary's
//! second one is, and that is what the comparison rests on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use http::header;
use http::header::HeaderName;
use http::header::HeaderValue;
use http::request::Parts;
use http_body_util::BodyExt;

use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::clock;
use crate::fault::Kind;
use crate::lane::Lane;
use crate::lane::View;
use crate::mirror;
use crate::overload::Stage;
use crate::rewrite;
use crate::table::RouteId;
use crate::trio::Answered;
use crate::trio::Trio;
use crate::upstream::Wish;

/// Trios under way per worker; past it a request is not compared.
const AT_ONCE: usize = 4;
/// All three answers have so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer whose fields are longer is not compared.
const FIELDS_BYTES: usize = 16 * 1024;

/// What would make answers parts, or none, or unreadable.
const LEFT_OUT: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// A request whose answers are to be compared.
pub struct Sample {
    split: usize,
    canary: usize,
    max_body: usize,
    _under_way: UnderWay,
}

/// Holds a place among the trios under way.
struct UnderWay(Rc<Cell<usize>>);

/// Is this mirrored request one whose answers are compared? Repeated are only those that
/// by their method change nothing.
pub fn picks(
    lane: &Lane,
    view: &View,
    split: usize,
    copy: &mirror::Copy,
    method: &str,
    has_body: bool,
) -> Option<Sample> {
    let (canary, mirror) = view.table.splits[split].mirror.as_ref()?;
    let compare = mirror.compare.as_ref()?;
    if copy.pair.is_none() || has_body || !matches!(method, "GET" | "HEAD") {
        return None;
    }
    let (due_us, now_us) = (&view.splits[split].compared_next_us, clock::now_us());
    if now_us < due_us.get() || lane.overload.stage() != Stage::None {
        return None;
    }
    due_us.set(now_us + 1_000_000 / u64::from(compare.per_second.max(1)));
    if lane.comparing.get() >= AT_ONCE {
        lane.counts.compared_dropped.add(1);
        return None;
    }
    lane.comparing.set(lane.comparing.get() + 1);
    let _under_way = UnderWay(lane.comparing.clone());
    Some(Sample { split, canary: *canary, max_body: compare.max_body, _under_way })
}

impl Sample {
    /// Asks, in a task of its own. `parts` are those of the mirrored copy.
    pub fn spawn(self, lane: &Rc<Lane>, view: &Rc<View>, route: RouteId, mut parts: Parts) {
        for name in LEFT_OUT {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        parts.headers.insert(rewrite::MIRROR, HeaderValue::from_static("1"));
        let (lane, view) = (lane.clone(), view.clone());
        tokio::task::spawn_local(async move {
            let trio = self.ask(&lane, &view, route, parts).await;
            match lane.trios.try_send(trio) {
                Ok(()) => lane.counts.compared.add(1),
                Err(_) => lane.counts.compared_dropped.add(1),
            }
        });
    }

    async fn ask(&self, lane: &Lane, view: &View, route: RouteId, parts: Parts) -> Trio {
        let plan = &view.table.splits[self.split];
        let whom = [plan.primary, plan.primary, self.canary];
        // Whose turn is first, second and third.
        let mut order = [0, 1, 2];
        order.swap(0, (lane.random() % 3) as usize);
        order.swap(1, 1 + (lane.random() % 2) as usize);
        let [a, b, c] = order.map(|role| self.one(lane, view, whom[role], &parts));
        let all = tokio::time::timeout(TIMEOUT, async { tokio::join!(biased; a, b, c) });
        let (a, b, c) = all.await.unwrap_or_default();
        let mut answers = [None, None, None];
        for (role, answer) in order.into_iter().zip([a, b, c]) {
            answers[role] = answer;
        }
        let [primary, again, canary] = answers;
        Trio {
            split: plan.cell.name.clone(),
            version: plan.cell.versions[self.canary].0.clone(),
            route: view.table.route(route).name.clone(),
            path: parts.uri.path().to_owned(),
            primary,
            again,
            canary,
        }
    }

    /// A connection that was kept may have ended just now: then a new one.
    async fn one(&self, lane: &Lane, view: &View, version: usize, parts: &Parts) -> Option<Answered> {
        let plan = &view.table.splits[self.split].versions[version];
        let wish = Wish { hash: None, random: &|| lane.random() };
        let backend = view.splits[self.split].versions[version].picker.pick(&wish, 0)?;
        let _busy = backend.begin();
        let ask = |fresh| attempt(&backend, plan, fresh, parts.clone(), RequestBody::Empty);
        let answer = match ask(false).await {
            Err(fault) if matches!(fault.kind, Kind::Stale | Kind::Unsent | Kind::Refused) => ask(true).await,
            answered => answered,
        };
        let answer = answer.ok().filter(|answer| !answer.switched)?;
        let (head, mut rest) = answer.response.into_parts();
        if length_of(&head.headers) > FIELDS_BYTES {
            return None;
        }
        let (status, fields, mut body) = (head.status.as_u16(), head.headers, Vec::new());
        while let Some(frame) = rest.frame().await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            if body.len() + data.len() > self.max_body {
                // The rest is not worth the time: its connection ends.
                return Some(Answered { status, fields, body: None });
            }
            body.extend_from_slice(&data);
        }
        answer.lease.give_back();
        Some(Answered { status, fields, body: Some(body) })
    }
}

fn length_of(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
