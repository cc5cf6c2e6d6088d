//! Where serin is meant to differ from Envoy. Each entry makes the two alike
//! where it applies, and only there; whatever is left is a fault of one.
//! `DIFFERENCES.md` is this list for people.

mod changes;

use super::deed::{Deed, Framing, Mishap};
use super::request::{Body, Case};
use super::seen::{Ending, Seen};

pub struct Decision {
    pub name: &'static str,
    pub envoy: &'static str,
    pub serin: &'static str,
    pub why: &'static str,
    /// Takes the difference out of both: Envoy's, then serin's.
    pub settle: fn(&Case, &mut Seen, &mut Seen),
}

/// What is different by nature. That it is there is compared.
pub fn neutral(seen: &mut Seen) {
    for (name, value) in &mut seen.fields {
        let dated = name == "date" && value != "Tue, 01 Jan 2019 00:00:00 GMT";
        if dated || name == "x-envoy-upstream-service-time" {
            *value = "(its own)".into();
        }
    }
    for (name, value) in seen.asked.iter_mut().flat_map(|asked| &mut asked.fields) {
        if name == "x-request-id" && value.len() == 36 {
            *value = "(its own)".into();
        }
        if name == "transfer-encoding" {
            value.make_ascii_lowercase();
        }
    }
}

pub fn all() -> impl Iterator<Item = &'static Decision> {
    DECISIONS.iter().chain(changes::DECISIONS)
}

const DECISIONS: &[Decision] = &[
    Decision {
        name: "Several lines of one field",
        envoy: "joins some well-known fields with a comma into one line, also before it matches; leaves others apart",
        serin: "leaves lines as they came, and asks each",
        why: "they mean the same, and what is not touched cannot be spoilt",
        settle: |_, envoy, serin| [envoy, serin].into_iter().for_each(join),
    },
    Decision {
        name: "Time that is left",
        envoy: "tells the origin in `x-envoy-expected-rq-timeout-ms`; takes `x-envoy-upstream-rq-timeout-ms` and \
                its kin from clients it counts as internal, and obeys",
        serin: "tells it where `tell: {timeLeft}` asks for it; such fields of clients pass as any other",
        why: "no client should be able to change what the operator has set",
        settle: |_, envoy, serin| {
            drop_asked(envoy, "x-envoy-expected-rq-timeout-ms");
            drop_asked(serin, "x-envoy-upstream-rq-timeout-ms");
        },
    },
    Decision {
        name: "Requests without a body",
        envoy: "adds `content-length: 0`, except to GET, HEAD and DELETE",
        serin: "passes the head as it came, and may add it over HTTP/2 alone",
        why: "the absence of both framing fields says the same (RFC 9112, 6.3)",
        settle: |case, envoy, serin| {
            let pairs = envoy.asked.iter_mut().zip(&mut serin.asked);
            for (theirs, ours) in pairs {
                if case.request.body == Body::None {
                    for asked in [theirs, ours] {
                        asked.fields.retain(|(name, value)| name != "content-length" || value != "0");
                    }
                }
            }
        },
    },
    Decision {
        name: "Words of our own answers",
        envoy: "a sentence as the body, or none",
        serin: "the cause as one word, also in `x-serin-cause`; nothing where the head could not be read",
        why: "a program can tell such an answer from the origin's, and why it was given",
        settle: |_, envoy, serin| {
            let unread = matches!(serin.status, Some(400 | 431 | 505)) && serin.body.is_empty();
            if is_local(envoy) && is_local(serin) && (serin.field("x-serin-cause").is_some() || unread) {
                for seen in [envoy, serin] {
                    for name in ["x-serin-cause", "content-length", "content-type"] {
                        seen.drop_field(name);
                    }
                    seen.body.clear();
                }
            }
        },
    },
    Decision {
        name: "HTTP/1.0",
        envoy: "426 unless `accept_http_10`; then says `connection: close`",
        serin: "serves it; that the connection ends is said by the version, and it is kept where `keep-alive` asks for it",
        why: "health checks and old tools still speak it",
        settle: |case, envoy, serin| {
            if case.request.minor == 0 && case.request.odd.is_none() {
                envoy.drop_field("connection");
                serin.drop_field("connection");
                (envoy.closed, serin.closed) = (true, true);
            }
        },
    },
    Decision {
        name: "Answers that end with the origin's connection",
        envoy: "become chunked, and the client's connection lives on",
        serin: "end with the client's connection too",
        why: "bodies pass unchanged; only origins of old answer so",
        settle: |case, envoy, serin| {
            if case.deeds.iter().any(is_unframed) && serin.closed && !envoy.is_local() && !serin.is_local() {
                for seen in [&mut *envoy, serin] {
                    seen.drop_field("transfer-encoding");
                    seen.drop_field("connection");
                }
                envoy.closed = true;
            }
        },
    },
    Decision {
        name: "Such an answer that ends with a reset",
        envoy: "is whole",
        serin: "is cut short, and so is the client's",
        why: "a reset is no end: nobody knows what was still to come",
        settle: |case, envoy, serin| {
            let reset = |deed: &Deed| deed.mishap == Some(Mishap::ResetAmidBody) && is_unframed(deed);
            let cut = matches!(serin.ending, Ending::Cut | Ending::Reset);
            if case.deeds.iter().any(reset) && cut && envoy.ending == Ending::Whole {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Fields that an answer's `connection` names",
        envoy: "are passed to the client",
        serin: "are taken off, as those of a request are by both",
        why: "RFC 9110, 7.6.1",
        settle: |case, envoy, serin| {
            let named = |(name, value): &(String, String)| name == "connection" && value == "x-b";
            if case.deeds.iter().any(|deed| deed.fields.iter().any(named)) && serin.field("x-b").is_none() {
                envoy.drop_field("x-b");
            }
            // An edit that asks whether the field is there finds what is left.
            let edited = serin.fields.iter().find(|(name, _)| name == "x-b");
            let passed = envoy.fields.iter_mut().find(|(name, value)| name == "x-b" && value == "1");
            if case.deeds.iter().any(|deed| deed.fields.iter().any(named))
                && let (Some((_, ours)), Some((_, theirs))) = (edited, passed)
            {
                theirs.clone_from(ours);
            }
            // An edit that tells its value has nothing to tell.
            if case.deeds.iter().any(|deed| deed.fields.iter().any(named)) {
                envoy.fields.retain(|field| field.1 != "1" || serin.fields.contains(field));
            }
        },
    },
    Decision {
        name: "Kept connections that turn out closed",
        envoy: "503",
        serin: "a request that may be repeated by its method is sent once more, on a new connection",
        why: "a server may close an idle connection at any time; its users need not see it",
        settle: |case, envoy, serin| {
            let silent = |deed: &Deed| {
                matches!(
                    deed.mishap,
                    Some(
                        Mishap::ResetAtOnce
                            | Mishap::CloseAtOnce
                            | Mishap::ResetUnanswered
                            | Mishap::CloseUnanswered
                            | Mishap::CloseAmidHead
                    )
                )
            };
            let again = serin.asked.len() > envoy.asked.len();
            let idempotent = !matches!(case.request.method.as_str(), "POST" | "PATCH");
            if again && idempotent && case.deeds.iter().any(silent) {
                serin.asked.truncate(envoy.asked.len());
                // Where the policy repeats too, each of the two ended at another try.
                if case.known.retries || matches!(envoy.status, Some(502 | 503)) {
                    adopt(envoy, serin);
                }
            }
        },
    },
    Decision {
        name: "How many tries there were",
        envoy: "is told to the client with answers of the proxy, too, but for those to wrong requests",
        serin: "is told with an origin's answer; with its own, where they come of it",
        why: "our own answers say their cause instead",
        settle: |_, envoy, serin| {
            if is_local(envoy) && is_local(serin) {
                envoy.drop_field("x-envoy-attempt-count");
                serin.drop_field("x-envoy-attempt-count");
            }
        },
    },
    Decision {
        name: "Retries after an interim answer",
        envoy: "none: to it the answer has begun",
        serin: "as if it had not come",
        why: "it binds nobody, and the answer is still to come",
        settle: |case, envoy, serin| {
            let interim = case.deeds.iter().any(|deed| !deed.interim.is_empty());
            if interim && serin.asked.len() > envoy.asked.len() {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Switching protocols unasked",
        envoy: "passes an origin's 101 on",
        serin: "502: nobody asked for it",
        why: "client and origin would no longer agree on what the bytes mean",
        settle: |case, envoy, serin| {
            if garbage(case, " 101 ") && serin.status == Some(502) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Answers that are nearly HTTP/1.1",
        envoy: "reads `HTTP/2.0 200`, a status of four digits and folded lines",
        serin: "502",
        why: "what one reads kindly, the next may read differently",
        settle: |case, envoy, serin| {
            let kind = ["HTTP/2.0", "HTTP/1.1 2000", " folded"].iter().any(|part| garbage(case, part));
            if kind && serin.status == Some(502) && is_local(serin) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Bare line feeds, bare carriage returns, folded lines",
        envoy: "takes the first for a line's end, takes the second out, joins the third",
        serin: "400",
        why: "others read them otherwise; so requests are smuggled",
        settle: |case, envoy, serin| {
            refused(case, &["a bare carriage return", "a bare line feed", "a folded line"], envoy, serin);
        },
    },
    Decision {
        name: "Chunks that are nearly right",
        envoy: "reads blanks behind a size, and drops what a chunk has beyond its size",
        serin: "400 to a client, 502 in an origin's place, or the answer is cut short",
        why: "RFC 9112, 7.1 knows neither, and smuggling lives on them",
        settle: |case, envoy, serin| {
            let odds = ["a size with blanks", "a chunk longer than its size"];
            let odd = case.request.odd.is_some_and(|one| odds.contains(&one.name()));
            serin.asked.retain(|asked| asked.whole || !odd);
            refused(case, &odds, envoy, serin);
            if garbage(case, "abcd\r\n0")
                && (serin.status == Some(502) || matches!(serin.ending, Ending::Cut | Ending::Reset))
            {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "OPTIONS for the server as a whole",
        envoy: "`*` fits no route by path, not even one of an empty prefix",
        serin: "fits routes that ask nothing of the path",
        why: "what takes everything takes this too",
        settle: |case, envoy, serin| {
            let star = case.request.odd.is_some_and(|odd| odd.name() == "the star");
            if star && envoy.status == Some(404) && is_local(envoy) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Answers that come before the request has ended",
        envoy: "end the connection, which they say; the rest of the request is not passed on",
        serin: "the rest is passed on as long as the origin reads, and the connection kept",
        why: "the origin asked for it, and may still count on it",
        settle: |case, envoy, serin| {
            if case.deeds.iter().any(|deed| deed.mishap == Some(Mishap::Early)) {
                for seen in [envoy, serin] {
                    seen.drop_field("connection");
                    seen.closed = true;
                    for asked in &mut seen.asked {
                        asked.whole = false;
                        asked.trailers.clear();
                    }
                }
            }
        },
    },
    Decision {
        name: "More than one blank in a request line",
        envoy: "counts as one",
        serin: "400",
        why: "RFC 9112, 3",
        settle: |case, envoy, serin| refused(case, &["two blanks"], envoy, serin),
    },
    Decision {
        name: "Two hosts in one request",
        envoy: "joins two `host` fields with a comma; the authority of an absolute target outranks the field",
        serin: "400 where they are not the same",
        why: "the next server may ask the other one for its rules",
        settle: |case, envoy, serin| {
            refused(case, &["two hosts"], envoy, serin);
            let absolute = case.request.target.starts_with("http://");
            if absolute && case.request.host() == "elsewhere.test" && serin.status == Some(400) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Unknown transfer codings",
        envoy: "501",
        serin: "400",
        why: "as for any other message whose end is not sure",
        settle: |case, envoy, serin| {
            let coded = case.request.odd.is_some_and(|odd| {
                odd.head(&case.request, 0)
                    .windows(18)
                    .any(|part| part.eq_ignore_ascii_case(b"transfer-encoding:"))
            });
            if coded && envoy.status == Some(501) && serin.status == Some(400) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "An answer that breaks off amid its head",
        envoy: "502",
        serin: "503, as for a connection that breaks before",
        why: "it broke off; whether a byte came before tells users nothing",
        settle: |case, envoy, serin| {
            let broken = case.deeds.iter().any(|deed| deed.mishap == Some(Mishap::CloseAmidHead));
            if broken && envoy.status == Some(502) && serin.status == Some(503) {
                envoy.status = serin.status;
                for (name, value) in &mut envoy.fields {
                    if serin.fields.contains(&(name.clone(), value.replace("502", "503"))) {
                        *value = value.replace("502", "503");
                    }
                }
            }
        },
    },
    Decision {
        name: "Trailers over HTTP/1.1",
        envoy: "dropped in both directions unless `enable_trailers`, then all pass",
        serin: "all pass, but for those that no `trailer` field announced when an exchange is unusual \
                (HTTP/1.0, `te`, `expect`, nominated fields, HTTP/2 on one side)",
        why: "a limit of the library that serves the unusual; gRPC over HTTP/2 is not touched by it",
        settle: |_, envoy, serin| {
            if serin.trailers.is_empty() {
                envoy.trailers.clear();
            }
            for (theirs, ours) in envoy.asked.iter_mut().zip(&serin.asked) {
                if ours.trailers.is_empty() {
                    theirs.trailers.clear();
                }
            }
        },
    },
    Decision {
        name: "Lengths of what has no body",
        envoy: "304 keeps the origin's `content-length`, also where an empty frame of data follows over HTTP/2",
        serin: "it may be dropped; over HTTP/2 the head ends such an answer",
        why: "it is a hint only (RFC 9110, 8.6), and some clients reset what seems to be too short",
        settle: |case, envoy, serin| {
            if case.known.http2 && serin.status == Some(304) && envoy.ending == Ending::Reset {
                adopt(envoy, serin);
            }
            if serin.status == Some(304) && serin.field("content-length").is_none() {
                envoy.drop_field("content-length");
            }
        },
    },
    Decision {
        name: "Targets with bytes that no target may have",
        envoy: "passes `\"` and other bytes on",
        serin: "400",
        why: "RFC 9112, 3.2; no browser sends them",
        settle: |case, envoy, serin| {
            if case.request.target.contains('"') && serin.status == Some(400) && is_local(serin) {
                adopt(envoy, serin);
            }
        },
    },
    Decision {
        name: "Leave to send what nobody will read",
        envoy: "answers `expect: 100-continue` with 100 before anything else",
        serin: "answers at once where it answers itself",
        why: "the client need not send a body in vain",
        settle: |case, envoy, serin| {
            let none = case.request.content().is_empty();
            if case.request.expects && (is_local(serin) || none) && !serin.interim.contains(&100) {
                envoy.interim.clear();
            }
        },
    },
    Decision {
        name: "Connections whose request was not read to its end",
        envoy: "are closed after an answer of its own, which says so",
        serin: "are closed too, where the rest has not come by then",
        why: "what the client still sends could be read as its next request",
        settle: |case, envoy, serin| {
            let rest = case.request.body != Body::None || case.request.odd.is_some();
            if rest && is_local(envoy) && is_local(serin) {
                for seen in [envoy, serin] {
                    seen.drop_field("connection");
                    seen.closed = true;
                }
            }
        },
    },
    Decision {
        name: "Wrong messages of which some has been passed on",
        envoy: "refuses late: the origin has seen the head of a request, the client that of an answer",
        serin: "refuses before anything goes out, where the fault is there with the head",
        why: "the sooner the better",
        settle: |case, envoy, serin| {
            if case.request.odd.is_some() && serin.status == Some(400) && is_local(serin) {
                envoy.asked.retain(|asked| asked.whole);
                serin.asked.retain(|asked| asked.whole);
            }
            if garbage(case, "\nzz\r\n") && serin.status == Some(502) {
                adopt(envoy, serin);
            }
            // Whatever came first: that the origin cannot be had, or that the body is wrong.
            let both = [&*envoy, serin].iter().all(|seen| is_local(seen) && seen.status >= Some(400));
            if case.request.odd.is_some() && both && envoy.status == Some(400) {
                envoy.status = serin.status;
            }
        },
    },
    Decision {
        name: "Type of a direct answer's body",
        envoy: "`content-type: text/plain`",
        serin: "none unless it is given",
        why: "it may be anything",
        settle: |_, envoy, serin| {
            if is_local(envoy) && is_local(serin) && serin.field("content-type").is_none() {
                envoy.drop_field("content-type");
            }
        },
    },
    Decision {
        name: "Framing of answers without a body",
        envoy: "a HEAD's `transfer-encoding` is passed on; an empty answer of its own to HEAD has no length",
        serin: "the first as well, or dropped; the second has `content-length: 0`",
        why: "both are hints only (RFC 9110, 9.3.2)",
        settle: |case, envoy, serin| {
            if case.request.method == "HEAD" || matches!(serin.status, Some(204 | 304)) {
                envoy.drop_field("transfer-encoding");
                serin.drop_field("transfer-encoding");
                let silent = envoy.field("content-length").is_none();
                if is_local(envoy) && silent && serin.field("content-length") == Some("0") {
                    serin.drop_field("content-length");
                }
            }
        },
    },
];

/// Only the end of its connection ends it.
fn is_unframed(deed: &Deed) -> bool {
    deed.framing == Framing::UntilClose || (deed.minor == 0 && deed.framing != Framing::Length)
}

fn is_local(seen: &Seen) -> bool {
    seen.is_local() && seen.ending == Ending::Whole
}

/// Gives Envoy the answer that serin gave.
fn adopt(envoy: &mut Seen, serin: &Seen) {
    *envoy = serin.clone();
}

fn refused(case: &Case, odds: &[&str], envoy: &mut Seen, serin: &Seen) {
    let same = case.request.odd.is_some_and(|one| odds.contains(&one.name()));
    if same && serin.status == Some(400) && serin.closed && serin.asked.is_empty() {
        adopt(envoy, serin);
    }
}

fn garbage(case: &Case, part: &str) -> bool {
    case.deeds.iter().any(
        |deed| matches!(deed.mishap, Some(Mishap::Garbage(nth)) if super::deed::GARBAGE[nth].contains(part)),
    )
}

fn drop_asked(seen: &mut Seen, name: &str) {
    for asked in &mut seen.asked {
        asked.fields.retain(|(key, _)| key != name);
    }
}

/// Lines of one field into one line, but for those that cannot be joined.
fn join(seen: &mut Seen) {
    joined(&mut seen.fields);
    for asked in &mut seen.asked {
        joined(&mut asked.fields);
    }
}

fn joined(fields: &mut Vec<(String, String)>) {
    let mut result: Vec<(String, String)> = Vec::new();
    for (name, value) in fields.drain(..) {
        let mark = if name == "cookie" { "; " } else { "," };
        match result.iter_mut().find(|(known, _)| *known == name && name != "set-cookie") {
            // An empty member of a list is none (RFC 9110, 5.6.1).
            Some((_, all)) if value.is_empty() && !all.is_empty() => {}
            Some((_, all)) => *all = format!("{all}{mark}{value}"),
            None => result.push((name, value)),
        }
    }
    *fields = result;
}
