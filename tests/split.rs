//! The shares of a split, and the people who are exempt from them.

use crate::harness::app::{head, pair, quiet};
use crate::harness::load::{burst, tally};
use crate::harness::{App, Ask, Origin, plausible};

#[test]
fn a_hundred_thousand_requests_fall_as_the_weights_say() {
    const REQUESTS: u64 = 100_000;
    let origins = ["a", "b", "c"].map(Origin::start);
    let shares = [0.90, 0.095, 0.005];
    let app = App::start(&format!(
        "{}services:\n  web:\n    versions:\n      a: {{role: primary, endpoints: [\"{}\"]}}\n      \
         b: {{role: canary, endpoints: [\"{}\"]}}\n      c: {{role: other, endpoints: [\"{}\"]}}\n    \
         weights: {{a: 90, b: 9.5, c: 0.5}}\n",
        head(2),
        origins[0].address,
        origins[1].address,
        origins[2].address
    ));
    let seen = tally(app.address(), 8, REQUESTS, &Ask::get("/"));
    quiet(&app);
    let mut chi_square = 0.0;
    for (origin, (name, share)) in origins.iter().zip(["a", "b", "c"].iter().zip(shares)) {
        let count = seen.get(*name).copied().unwrap_or(0);
        let expected = REQUESTS as f64 * share;
        chi_square += (count as f64 - expected).powi(2) / expected;
        // The same truth thrice: what users saw, what the origin got, what was counted.
        assert_eq!(origin.requests(), count);
        assert_eq!(app.requests(&[("version", name), ("outcome", "success")]), count);
        assert_eq!(app.metric("serin_responses_total", &[("version", name), ("class", "2xx")]) as u64, count);
    }
    assert_eq!(app.requests(&[]), REQUESTS);
    // Two degrees of freedom: a fair coin goes past 27.6 once in a million runs.
    println!("chi-square of {REQUESTS} requests: {chi_square:.2} {seen:?}");
    assert!(chi_square < 27.6, "chi-square {chi_square:.1}: {seen:?}");
}

#[test]
fn a_share_of_a_hundredth_of_a_percent_and_none_at_all() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "weights: {primary: 99.99, canary: 0.01}"));
    assert_eq!(app.metric("serin_weight_percent", &[("version", "canary")]), 0.01);
    app.put_weights("web", &[("primary", 100.0), ("canary", 0.0)]);
    let seen = tally(app.address(), 4, 2_000, &Ask::get("/"));
    assert_eq!(seen.get("canary"), None);
    app.put_weights("web", &[("primary", 0.0), ("canary", 100.0)]);
    let seen = tally(app.address(), 4, 2_000, &Ask::get("/"));
    assert_eq!(seen.get("canary"), Some(&2_000));
}

#[test]
fn without_weights_the_primary_takes_all() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, ""));
    assert_eq!(tally(app.address(), 2, 500, &Ask::get("/")).get("primary"), Some(&500));
    assert_eq!(canary.requests(), 0);
}

#[test]
fn endpoints_of_one_version_share_its_traffic() {
    let origins = ["p1", "p2", "p3"].map(Origin::start);
    let endpoints =
        origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect::<Vec<_>>().join(", ");
    let app = App::start(&format!("{}services:\n  web:\n    primary: [{endpoints}]\n", head(2)));
    let seen = tally(app.address(), 6, 3_000, &Ask::get("/"));
    for name in ["p1", "p2", "p3"] {
        let count = seen.get(name).copied().unwrap_or(0);
        assert!((700..=1_300).contains(&count), "{name} got {count} of 3000: {seen:?}");
    }
}

#[test]
fn forced_requests_go_where_they_are_told_whatever_the_weights() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let force = "force:\n\
                 \x20 - {header: x-canary, exact: always, version: canary}\n\
                 \x20 - {header: x-canary, exact: never, version: primary}\n\
                 \x20 - {cookie: group, prefix: beta, version: canary}\n\
                 \x20 - {header: x-tester, present: true, version: canary}\n\
                 \x20 - {header: x-build, regex: \"2[.].*\", version: canary}\n";
    let app = App::start(&pair(primary.address, canary.address, force));
    let cases = [
        (Ask::get("/"), "primary"),
        (Ask::get("/").header("x-canary", "always"), "canary"),
        (Ask::get("/").header("x-canary", "never").header("x-tester", "1"), "primary"),
        (Ask::get("/").header("x-canary", "perhaps"), "primary"),
        (Ask::get("/").header("cookie", "group=beta-7"), "canary"),
        (Ask::get("/").header("cookie", "group=alpha"), "primary"),
        (Ask::get("/").header("x-tester", ""), "canary"),
        (Ask::get("/").header("x-build", "2.17"), "canary"),
        (Ask::get("/").header("x-build", "12.17"), "primary"),
    ];
    let rounds = 20 * cases.len() as u64;
    for weights in [(100.0, 0.0), (0.0, 100.0)] {
        app.put_weights("web", &[("primary", weights.0), ("canary", weights.1)]);
        burst(
            app.address(),
            4,
            rounds,
            |nth| cases[nth as usize % cases.len()].0.clone(),
            |nth, reply| {
                let (ask, expected) = &cases[nth as usize % cases.len()];
                // Only those that no rule names follow the weights.
                let ruled = match ask.headers.first().map(|(name, value)| (name.as_str(), value.as_str())) {
                    None
                    | Some(("x-canary", "perhaps") | ("cookie", "group=alpha") | ("x-build", "12.17")) => {
                        false
                    }
                    Some(_) => true,
                };
                let expected = if ruled || weights.1 == 0.0 { expected } else { "canary" };
                assert_eq!(reply.origin(), expected, "{:?} at {weights:?}", ask.headers);
            },
        );
    }
}

#[test]
fn two_services_split_apart() {
    let names = ["a1", "a2", "b1", "b2"].map(Origin::start);
    let app = App::start(&format!(
        "{}services:\n  a: {{primary: \"{}\", canary: \"{}\", weights: {{primary: 80, canary: 20}}}}\n  \
         b: {{primary: \"{}\", canary: \"{}\", weights: {{primary: 40, canary: 60}}}}\n\
         routes:\n  - {{name: a, match: [{{prefix: /a}}], service: a}}\n  - {{name: b, match: [{{prefix: /b}}], service: b}}\n",
        head(2),
        names[0].address,
        names[1].address,
        names[2].address,
        names[3].address
    ));
    for (path, canary, share) in [("/a", "a2", 0.2), ("/b", "b2", 0.6)] {
        let seen = tally(app.address(), 4, 4_000, &Ask::get(path));
        let count = seen.get(canary).copied().unwrap_or(0);
        assert!(plausible(count, 4_000, share, 5.5), "{canary} got {count} of 4000 at {share}");
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
    quiet(&app);
    assert_eq!(app.requests(&[("service", "a")]), 4_000);
}
