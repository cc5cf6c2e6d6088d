//! A user keeps his version while weights move, and nobody keeps a list of users.

use std::sync::Mutex;

use crate::harness::app::pair;
use crate::harness::load::burst;
use crate::harness::{App, Ask, Origin, plausible};

/// Which users the canary serves: one request each, over connections that have
/// nothing to do with who they are.
fn on_canary(app: &App, users: u64, round: u64, make: impl Fn(u64) -> Ask + Sync) -> Vec<bool> {
    let seen = Mutex::new(vec![false; users as usize]);
    // A different stride each round, so that a user changes connections.
    let user = |nth: u64| (nth * 7_919 + round * 13) % users;
    burst(
        app.address(),
        6,
        users,
        |nth| make(user(nth)),
        |nth, reply| {
            assert_eq!(reply.status, 200);
            seen.lock().expect("no holder panics")[user(nth) as usize] = reply.origin() == "canary";
        },
    );
    seen.into_inner().expect("no holder panicked")
}

fn count(users: &[bool]) -> u64 {
    users.iter().filter(|on| **on).count() as u64
}

/// Walks the weights up and down and holds every user to his version.
fn walk(app: &App, users: u64, weights: &[f64], make: impl Fn(u64) -> Ask + Sync) {
    let mut before: Option<(f64, Vec<bool>)> = None;
    for (round, &weight) in weights.iter().enumerate() {
        app.put_weights("web", &[("primary", 100.0 - weight), ("canary", weight)]);
        let now = on_canary(app, users, round as u64, &make);
        let share = count(&now);
        assert!(plausible(share, users, weight / 100.0, 5.0), "{share} of {users} users at {weight} %");
        if let Some((old, then)) = &before {
            let joined = then.iter().zip(&now).filter(|(then, now)| !**then && **now).count();
            let left = then.iter().zip(&now).filter(|(then, now)| **then && !**now).count();
            println!("{old} % -> {weight} %: {joined} users joined the canary, {left} left it");
            assert!(weight > *old || joined == 0, "{joined} users joined at {old} % -> {weight} %");
            assert!(weight < *old || left == 0, "{left} users left at {old} % -> {weight} %");
        }
        before = Some((weight, now));
    }
}

#[test]
fn ten_thousand_users_by_header_move_only_with_the_weights() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "sticky: {header: x-user}"));
    walk(&app, 10_000, &[5.0, 20.0, 20.0, 50.0, 30.0, 30.01, 100.0, 0.0, 5.0], |user| {
        Ask::get("/").header("x-user", &format!("user-{user}"))
    });
}

#[test]
fn users_by_their_own_cookie_move_only_with_the_weights() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start(&pair(primary.address, canary.address, "sticky: {cookie: sid}"));
    walk(&app, 2_000, &[10.0, 40.0, 10.0], |user| {
        Ask::get("/").header("cookie", &format!("a=b; sid=s{user}; c=d"))
    });
    let reply = app.conn().ask(&Ask::get("/").header("cookie", "sid=s1"));
    assert_eq!(reply.header("set-cookie"), None, "a service's own cookie is not ours to set");
}

#[test]
fn users_by_an_issued_cookie_move_only_with_the_weights() {
    const USERS: u64 = 1_000;
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rest = "sticky: {issue: serin-web, maxAge: 1h, path: /shop}\nweights: {primary: 80, canary: 20}";
    let app = App::start(&pair(primary.address, canary.address, rest));
    let issued = Mutex::new(vec![(String::new(), false); USERS as usize]);
    burst(
        app.address(),
        6,
        USERS,
        |_| Ask::get("/").header("cookie", "other=1"),
        |user, reply| {
            let cookie =
                reply.header("set-cookie").expect("a user without the cookie is given one").to_owned();
            let parts: Vec<_> = cookie.split(';').map(|part| part.trim().to_ascii_lowercase()).collect();
            assert!(parts.contains(&"max-age=3600".to_owned()), "{cookie}");
            assert!(parts.contains(&"path=/shop".to_owned()), "{cookie}");
            let pair = cookie.split(';').next().expect("a cookie has a first part");
            assert!(pair.starts_with("serin-web="), "{cookie}");
            issued.lock().expect("no holder panics")[user as usize] =
                (pair.to_owned(), reply.origin() == "canary");
        },
    );
    let issued = issued.into_inner().expect("no holder panicked");
    let mut cookies: Vec<_> = issued.iter().map(|(cookie, _)| cookie).collect();
    cookies.sort();
    cookies.dedup();
    assert!(cookies.len() > USERS as usize * 99 / 100, "only {} different cookies", cookies.len());
    let ask = |user: u64| Ask::get("/").header("cookie", &format!("other=1; {}", issued[user as usize].0));
    let first: Vec<_> = issued.iter().map(|(_, on)| *on).collect();
    assert_eq!(
        on_canary(&app, USERS, 1, ask),
        first,
        "the first answer already came from the cookie's version"
    );
    walk(&app, USERS, &[20.0, 50.0, 20.0, 0.0, 100.0], ask);
    let reply = app.conn().ask(&ask(1));
    assert_eq!(reply.header("set-cookie"), None, "a user who has the cookie is not given another");
}

#[test]
fn without_the_key_the_coin_decides() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rest = "sticky: {header: x-user}\nweights: {primary: 50, canary: 50}";
    let app = App::start(&pair(primary.address, canary.address, rest));
    let seen = on_canary(&app, 2_000, 0, |_| Ask::get("/"));
    assert!(plausible(count(&seen), 2_000, 0.5, 5.0), "{} of 2000", count(&seen));
}

#[test]
fn a_restart_moves_no_user() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rest = "sticky: {header: x-user}\nweights: {primary: 60, canary: 40}";
    let mut app = App::start(&pair(primary.address, canary.address, rest));
    let ask = |user: u64| Ask::get("/").header("x-user", &format!("u{user}"));
    let before = on_canary(&app, 1_000, 0, ask);
    app.restart();
    assert_eq!(on_canary(&app, 1_000, 1, ask), before);
}

#[test]
fn a_forced_version_goes_before_stickiness() {
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rest = "sticky: {header: x-user}\nforce: [{header: x-canary, exact: always, version: canary}]";
    let app = App::start(&pair(primary.address, canary.address, rest));
    let forced = on_canary(&app, 200, 0, |user| {
        Ask::get("/").header("x-user", &format!("u{user}")).header("x-canary", "always")
    });
    assert_eq!(count(&forced), 200);
    let free = on_canary(&app, 200, 1, |user| Ask::get("/").header("x-user", &format!("u{user}")));
    assert_eq!(count(&free), 0);
}
