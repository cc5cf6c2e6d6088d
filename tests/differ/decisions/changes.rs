//! Where serin is meant to differ in what it changes: edits, rewrites, CORS and
//! faults put in on purpose.

use super::super::deed::Mishap;
use super::super::request::{Case, Request};
use super::super::seen::Seen;
use super::super::stage::Asked;
use super::{Decision, adopt, is_local};

pub const DECISIONS: &[Decision] = &[
    Decision {
        name: "Early hints and other interim answers",
        envoy: "are dropped, but for 100",
        serin: "reach clients of HTTP/1.1",
        why: "browsers load what a 103 names while the answer is still made",
        settle: |_, envoy, serin| serin.interim.retain(|status| envoy.interim.contains(status)),
    },
    Decision {
        name: "`%RESPONSE_CODE%` in an answer of the proxy's own",
        envoy: "0, or 100 where that was said before",
        serin: "its code",
        why: "that is what was asked for",
        settle: |_, envoy, serin| {
            let Some(status) = serin.status.filter(|_| is_local(envoy) && is_local(serin)) else { return };
            for (name, value) in &mut envoy.fields {
                let ours = serin.fields.iter().filter(|(known, _)| known == name).map(|(_, ours)| ours);
                let mut same = ours.filter(|ours| {
                    ["0", "100"].iter().any(|code| ours.replace(&status.to_string(), code) == *value)
                });
                if let Some(same) = same.next_back() {
                    value.clone_from(same);
                }
            }
        },
    },
    Decision {
        name: "Paths that a rewrite leaves without a slash",
        envoy: "go on as they are; over HTTP/2 they cannot, and that is a 502",
        serin: "get one in front",
        why: "such a target is no path (RFC 9112, 3.2.1), and the next server would refuse it",
        settle: |case, envoy, serin| {
            let said = envoy.body.ends_with(b"reset reason: protocol error");
            let broken = envoy.status == Some(502) && (said || case.request.method == "HEAD");
            if broken && envoy.asked.is_empty() && serin.asked.iter().any(|ours| ours.version == "HTTP/2.0") {
                adopt(envoy, serin);
            }
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                if ours.target.strip_prefix('/') == Some(&theirs.target) {
                    theirs.target.clone_from(&ours.target);
                }
            }
        },
    },
    Decision {
        name: "Rewrites that leave nothing of a path",
        envoy: "are not made",
        serin: "leave `/`",
        why: "the pattern did match, and what it took away is not to be sent",
        settle: |case, envoy, serin| {
            let path = case.request.target.split('?').next().unwrap_or_default();
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                let told = ours.field("x-envoy-original-path").is_some();
                if told && theirs.field("x-envoy-original-path").is_none() && nothing_left(&ours.target) {
                    theirs.target.clone_from(&ours.target);
                    theirs.fields.extend(
                        ours.fields.iter().filter(|(name, _)| name == "x-envoy-original-path").cloned(),
                    );
                    theirs.fields.sort();
                }
            }
            let Some(ours) = serin.field("location").map(str::to_owned) else { return };
            for (name, value) in &mut envoy.fields {
                let unchanged = value.split('?').next().and_then(|value| value.strip_suffix(path));
                if name == "location"
                    && let Some(front) = unchanged
                    && let Some(after) =
                        ours.split("://").nth(1).and_then(|rest| rest.find('/').map(|at| &rest[at..]))
                    && nothing_left(after)
                {
                    *value = format!("{front}{after}");
                }
            }
        },
    },
    Decision {
        name: "The host that a retry tells as the original one",
        envoy: "the endpoint's name that the first try had, where that becomes the host",
        serin: "the client's",
        why: "no client has asked for the other",
        settle: |_, envoy, serin| {
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked).skip(1) {
                let host = theirs.field("host").map(str::to_owned);
                let mine = ours.field("x-envoy-original-host");
                for (name, value) in &mut theirs.fields {
                    if name == "x-envoy-original-host" && Some(&*value) == host.as_ref() {
                        *value = mine.unwrap_or_default().to_owned();
                    }
                }
            }
        },
    },
    Decision {
        name: "Time of an answer that comes before the request has ended",
        envoy: "is not told",
        serin: "is told in `x-envoy-upstream-service-time` as for every answer",
        why: "there is one: since the request's head went out",
        settle: |case, envoy, serin| {
            let early = case.deeds.iter().any(|deed| deed.mishap == Some(Mishap::Early));
            if early && envoy.field("x-envoy-upstream-service-time").is_none() {
                serin.drop_field("x-envoy-upstream-service-time");
            }
        },
    },
    Decision {
        name: "Hashes of fields that are edited",
        envoy: "are of what goes to the endpoint",
        serin: "are of what came from the client",
        why: "a field may be taken off and still say who belongs where",
        settle: |case, envoy, serin| {
            if !case.known.hashes_edited || envoy.asked.len() != serin.asked.len() {
                return;
            }
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                if theirs.origin != ours.origin {
                    theirs.origin.clone_from(&ours.origin);
                }
            }
            let origin = serin.field("x-origin").map(str::to_owned);
            for (name, value) in &mut envoy.fields {
                if name == "x-origin"
                    && let Some(origin) = &origin
                {
                    value.clone_from(origin);
                }
            }
        },
    },
    Decision {
        name: "Faults by a gRPC status, for clients that speak no gRPC",
        envoy: "200 and nothing else",
        serin: "the status of HTTP that says the same",
        why: "an abort is to be seen",
        settle: |_, envoy, serin| {
            let injected = serin.field("x-serin-cause").is_none_or(|cause| cause == "fault-injected");
            if is_local(envoy) && is_local(serin) && envoy.status == Some(200) && injected {
                envoy.status = serin.status;
            }
        },
    },
    Decision {
        name: "Preflights of origins that are not allowed, where they are not passed on",
        envoy: "200 with all but the origin",
        serin: "200 and nothing else",
        why: "to browsers it is the same, and others need not know",
        settle: |_, envoy, serin| {
            let allowed = |seen: &Seen| seen.field("access-control-allow-origin").is_some();
            if is_local(envoy) && is_local(serin) && !allowed(envoy) && !allowed(serin) {
                envoy.fields.retain(|(name, _)| !name.starts_with("access-control-"));
            }
        },
    },
    Decision {
        name: "Endpoints that cannot be reached",
        envoy: "503, or one of the policy's retries",
        serin: "another endpoint of the version is asked, whatever the policy",
        why: "nobody has taken the request yet",
        settle: |case, envoy, serin| {
            let stands_in = |asked: &Asked| case.known.stand_ins.contains(&asked.origin);
            let refused = is_local(envoy) && envoy.status == Some(503) && envoy.asked.is_empty();
            let tried = case.known.retries && serin.asked.len() > envoy.asked.len();
            if !serin.asked.is_empty() && serin.asked.iter().all(stands_in) && (refused || tried) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "`:scheme` of requests that go up over HTTP/2",
        envoy: "what `x-forwarded-proto` says",
        serin: "how the request is sent",
        why: "the field tells the rest, and endpoints may refuse a scheme that is not theirs",
        settle: |_, envoy, serin| {
            let https = ("x-forwarded-proto".to_owned(), "https".to_owned());
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                if ours.fields.contains(&https) && ours.field(":scheme") == Some("http") {
                    theirs.fields.retain(|(name, _)| name != ":scheme");
                    theirs.fields.push((":scheme".to_owned(), "http".to_owned()));
                }
            }
        },
    },
    Decision {
        name: "The scheme by which the client came",
        envoy: "its own `:scheme` or that of an absolute target; else what `x-forwarded-proto` says",
        serin: "what `x-forwarded-proto` says, where the client is trusted with it",
        why: "who ends TLS for us says it there, and speaks to us as it likes",
        settle: |case, envoy, serin| {
            let request = &case.request;
            let said = request.says("x-forwarded-proto").any(|scheme| scheme == "https");
            if !said || !(case.known.http2 || request.target.starts_with("http://")) {
                return;
            }
            same_but_for_scheme(&mut envoy.fields, &serin.fields);
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                same_but_for_scheme(&mut theirs.fields, &ours.fields);
            }
        },
    },
    Decision {
        name: "Faults on routes that answer themselves",
        envoy: "without the route's edits and CORS",
        serin: "with both, as all answers of the route",
        why: "a field that is to be on every answer of a route may not be missing from some",
        settle: |case, envoy, serin| {
            // Without a body to see, an answer of a route's own may be a fault as well.
            let own = case.request.method != "HEAD" && is_own(case, envoy, false);
            if !is_local(envoy) || envoy.status != serin.status || own {
                return;
            }
            let bare = |seen: &Seen, names: &[&str]| {
                let mut fields = seen.fields.clone();
                fields.retain(|(name, _)| !names.contains(&name.as_str()));
                fields.sort();
                fields
            };
            if case.known.edited_faults.iter().any(|names| bare(envoy, names) == bare(serin, names)) {
                envoy.fields.clone_from(&serin.fields);
            }
        },
    },
    Decision {
        name: "CORS of direct answers and redirects",
        envoy: "none",
        serin: "as of every other answer",
        why: "a page cannot read what is not marked as its own",
        settle: |case, envoy, serin| {
            if !is_local(envoy) || !is_local(serin) || !is_own(case, envoy, true) {
                return;
            }
            if preflight(&case.request) && serin.status == Some(200) && serin.body.is_empty() {
                adopt(envoy, serin);
            }
            let marked = |seen: &Seen| seen.field("access-control-allow-origin").is_some();
            if !marked(envoy) && marked(serin) {
                serin.fields.retain(|(name, _)| !name.starts_with("access-control-"));
            }
        },
    },
];

/// A direct answer or a redirect of the table, of a route with CORS where asked.
fn is_own(case: &Case, seen: &Seen, cors: bool) -> bool {
    let status = seen.status.unwrap_or_default();
    let direct = case.known.direct.iter().any(|(code, body, marked)| {
        let same = seen.body == body.as_bytes() || case.request.method == "HEAD";
        *code == status && same && (*marked || !cors)
    });
    let redirects =
        || case.known.redirects.iter().any(|(code, marked)| *code == status && (*marked || !cors));
    direct || (seen.field("location").is_some() && redirects())
}

fn nothing_left(target: &str) -> bool {
    target.split('?').next() == Some("/")
}

fn same_but_for_scheme(theirs: &mut [(String, String)], ours: &[(String, String)]) {
    for (name, value) in theirs {
        let same = |(known, ours): &&(String, String)| {
            known == name && ours != value && ours.replace("https", "http") == *value
        };
        if let Some((_, ours)) = ours.iter().find(same) {
            value.clone_from(ours);
        }
    }
}

fn preflight(request: &Request) -> bool {
    let says = |name| request.says(name).any(|value| !value.is_empty());
    request.method == "OPTIONS" && says("origin") && says("access-control-request-method")
}
