//! Commands that change something, as a client of the admin API.

use hyper::Method;
use serde_json::{Map, Value};

use super::client::{Client, segment};
use super::status::{Seen, line};
use super::{Exit, Named, TestAlerts, Weights};

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
        println!("{}: {}", weights.split, in_words(&weights.shares, &answer["weights"]));
    }
    Ok(Exit::Done)
}

/// An error when any of the receivers did not take it.
pub fn test_alerts(test: &TestAlerts) -> anyhow::Result<Exit> {
    let client = Client::new(&test.ask.admin)?;
    let mut path = format!("/alerts/test?severity={}", test.severity);
    if let Some(receiver) = &test.receiver {
        path.push_str(&format!("&receiver={}", segment(receiver)));
    }
    let answer = client.send(Method::POST, &path, None)?;
    let tested = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if test.ask.json {
        println!("{answer}");
    } else {
        for one in tested {
            let receiver = one["receiver"].as_str().unwrap_or_default();
            println!("{receiver}: {}", one["error"].as_str().unwrap_or("delivered"));
        }
    }
    let all = tested.iter().all(|one| one["delivered"] == true);
    Ok(if all { Exit::Done } else { Exit::Error })
}

/// `primary 90 %, canary 10 %`: what is in force, in the order that was asked for.
fn in_words(asked: &[(String, f64)], weights: &Value) -> String {
    let place = |version: &String| asked.iter().position(|(asked, _)| asked == version);
    let mut shares: Vec<_> = weights.as_object().into_iter().flatten().collect();
    shares.sort_by_key(|(version, _)| place(version).unwrap_or(asked.len()));
    let share =
        |(version, percent): &(&String, &Value)| format!("{version} {} %", percent.as_f64().unwrap_or(0.0));
    shares.iter().map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_in_the_order_asked_for() {
        let answer = serde_json::json!({"canary": 2.5, "other": 0.0, "primary": 97.5});
        let asked = [("primary".to_owned(), 97.5), ("canary".to_owned(), 2.5)];
        assert_eq!(in_words(&asked, &answer), "primary 97.5 %, canary 2.5 %, other 0 %");
    }
}
