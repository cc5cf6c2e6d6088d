//! Commands that change something, as a client of the admin API.

use hyper::Method;
use serde_json::{Map, Value};

use super::client::{Client, segment};
use super::status::{Seen, line};
use super::{Exit, Named, Weights};

pub fn command(named: &Named, verb: &str) -> anyhow::Result<Exit> {
    let client = Client::new(&named.ask.admin)?;
    let path = format!("/rollouts/{}/{verb}", segment(&named.name));
    let answer = client.send(Method::POST, &path, None)?;
    if named.ask.json {
        println!("{answer}");
    } else {
        println!("{}", line(&serde_json::from_value::<Seen>(answer)?));
    }
    Ok(Exit::Done)
}

pub fn weights(weights: &Weights) -> anyhow::Result<Exit> {
    let client = Client::new(&weights.ask.admin)?;
    let mut shares = Map::new();
    for (version, percent) in &weights.shares {
        let twice = shares.insert(version.clone(), Value::from(*percent)).is_some();
        anyhow::ensure!(!twice, "version {version:?} is given a weight twice");
    }
    let path = format!("/splits/{}/weights", segment(&weights.split));
    let answer = client.send(Method::PUT, &path, Some(&Value::Object(shares)))?;
    if weights.ask.json {
        println!("{answer}");
    } else {
        println!("{}: {}", weights.split, in_words(&answer["weights"]));
    }
    Ok(Exit::Done)
}

/// `canary 10 %, primary 90 %`
fn in_words(weights: &Value) -> String {
    let shares = weights.as_object().into_iter().flatten();
    shares.map(|(version, percent)| format!("{version} {percent} %")).collect::<Vec<_>>().join(", ")
}
