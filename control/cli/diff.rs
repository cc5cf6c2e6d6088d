//! Where the answers differ that were compared, as a table.

use comfy_table::{Table, presets};
use hyper::Method;
use serde::Deserialize;

use super::client::{Client, segment};
use super::{Diff, Exit};

#[derive(Deserialize)]
struct Differences {
    service: String,
    version: Option<String>,
    compared: u64,
    left_out: std::collections::BTreeMap<String, u64>,
    places: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    place: String,
    differs: bool,
    version: u64,
    primary: u64,
    log_e: f64,
    needed: f64,
    example: Option<Example>,
}

#[derive(Deserialize)]
struct Example {
    path: String,
    primary: String,
    version: String,
}

pub fn diff(diff: &Diff) -> anyhow::Result<Exit> {
    let client = Client::new(&diff.ask.admin)?;
    let path = match &diff.service {
        Some(service) => format!("/differences?service={}", segment(service)),
        None => "/differences".to_owned(),
    };
    let answer = client.send(Method::GET, &path, None)?;
    if diff.ask.json {
        println!("{answer}");
        return Ok(Exit::Done);
    }
    let all: Vec<Differences> = serde_json::from_value(answer)?;
    if all.is_empty() {
        println!("no answers are compared; `compare: true` in the mirror of a service asks for it");
    }
    for differences in &all {
        print!("{}", told(differences, diff.all));
    }
    Ok(Exit::Done)
}

fn told(differences: &Differences, all: bool) -> String {
    let Differences { service, version, compared, left_out, places } = differences;
    let version = version.as_deref().unwrap_or("the mirror's version");
    let differing = places.iter().filter(|place| place.differs).count();
    let verb = if differing == 1 { "place differs" } else { "places differ" };
    let mut text =
        format!("{service}: {compared} answers of {version} compared, {differing} {verb} by the version");
    let by_itself = places.len() - differing;
    if by_itself > 0 && !all {
        text.push_str(&format!(", {by_itself} are not known to (--all shows them)"));
    }
    for (why, count) in left_out {
        text.push_str(&format!("; {count} {}", why.replace('_', " ")));
    }
    text.push('\n');
    let shown: Vec<&Difference> = places.iter().filter(|place| all || place.differs).collect();
    if shown.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PLACE", "VERSION DIFFERS", "PRIMARY ITSELF", "SURE", "EXAMPLE"]);
    for place in shown {
        table.add_row(row(place, *compared));
    }
    text.push_str(&format!("{table}\n"));
    text
}

fn row(place: &Difference, compared: u64) -> [String; 5] {
    let of = |count: u64| format!("{:.1} %", 100.0 * count as f64 / compared.max(1) as f64);
    let sure = (100.0 * place.log_e / place.needed).clamp(0.0, 100.0);
    let example = place.example.as_ref();
    let example = example.map(|Example { path, primary, version }| format!("{path}: {primary} -> {version}"));
    [
        place.place.clone(),
        of(place.version),
        of(place.primary),
        if place.differs { "yes".to_owned() } else { format!("{sure:.0} %") },
        example.unwrap_or_else(|| "-".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Differences {
        serde_json::from_value(serde_json::json!({
            "service": "web", "version": "canary", "compared": 40, "left_out": {"too_long": 2},
            "places": [
                {"place": "$.price", "differs": true, "version": 40, "primary": 0, "log_e": 25.0, "needed": 7.6,
                 "example": {"path": "/p", "primary": "1", "version": "2"}},
                {"place": "$.at", "differs": false, "version": 40, "primary": 40, "log_e": 0.0, "needed": 8.7},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn places_that_differ_by_the_version_are_told_and_others_where_asked_for() {
        let rows = |all| {
            let text = told(&seen(), all);
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let head = "web: 40 answers of canary compared, 1 place differs by the version";
        assert_eq!(rows(false)[0], format!("{head}, 1 are not known to (--all shows them); 2 too long"));
        assert_eq!(rows(false)[2..], ["$.price 100.0 % 0.0 % yes /p: 1 -> 2"]);
        assert_eq!(rows(true)[0], format!("{head}; 2 too long"));
        assert_eq!(rows(true)[3], "$.at 100.0 % 100.0 % 0 % -");
    }
}
