//! The description of the admin API against the API itself: every path and
//! method it names is served, nothing else is, and what is served is as described.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;

use crate::harness::app::pair;
use crate::harness::{App, Ask, Conn, Load, Origin};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

struct Described {
    app: App,
    document: Value,
    _origins: [Origin; 2],
}

/// A rollout that runs on, and its traffic.
fn described() -> (Described, Load) {
    let origins = [Origin::start("primary"), Origin::start("canary")];
    let app = App::start(
        &(pair(origins[0].address, origins[1].address, "")
            + "rollouts:\n  web:\n    steps: [{weight: 50, for: 10m}]\n"),
    );
    let load = Load::start(app.address(), 2, Duration::from_millis(1), Ask::get("/"));
    let document = app.get_json("/openapi.json");
    (Described { app, document, _origins: origins }, load)
}

impl Described {
    /// The schema of an answer, by its path, method, status and media type.
    fn schema(&self, path: &str, method: &str, status: &str, media: &str) -> &Value {
        &self.document["paths"][path][method]["responses"][status]["content"][media]["schema"]
    }

    /// A GET whose answer must be as its schema says, to the last key.
    fn get_as_described(&self, path: &str, template: &str) -> Value {
        let answer = self.app.get_json(path);
        self.check(template, self.schema(template, "get", "200", "application/json"), &answer);
        answer
    }

    fn check(&self, at: &str, schema: &Value, value: &Value) {
        assert!(schema.is_object(), "{at}: no schema, for {value}");
        if let Err(problem) = self.fits(schema, value) {
            panic!("{at}: {problem}, in {value}");
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(place) => {
                let found = self.document.pointer(place.trim_start_matches('#'));
                self.resolved(found.unwrap_or_else(|| panic!("{place} leads nowhere")))
            }
            None => schema,
        }
    }

    /// Whether a value is what the schema says and holds no key that it does not name.
    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = choices.iter().filter(|choice| self.fits(choice, value).is_ok()).count();
            return if fits == 1 { Ok(()) } else { Err(format!("{value} fits {fits} of {choices:?}")) };
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.contains(value).then_some(()).ok_or(format!("{value} is none of {words:?}"));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is_number = kind == "integer" && types.contains(&"number");
        if !types.is_empty() && !types.contains(&kind) && !is_number {
            return Err(format!("{value} is no {types:?}"));
        }
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.fits(&schema["items"], item)),
            Value::Object(_) => self.fits_object(schema, value),
            _ => Ok(()),
        }
    }

    fn fits_object(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut parts = Vec::new();
        self.flatten(schema, &mut parts);
        let fields = value.as_object().expect("it was matched");
        for name in parts.iter().filter_map(|part| part["required"].as_array()).flatten() {
            let name = name.as_str().expect("names are text");
            fields.get(name).ok_or(format!("no {name:?}"))?;
        }
        let named = |name: &str| parts.iter().find_map(|part| part["properties"].get(name));
        // An object of which nothing is said, or whose keys are names.
        let others = parts.iter().find_map(|part| part.get("additionalProperties"));
        let is_open = parts.iter().all(|part| part["properties"].is_null()) && others.is_none();
        for (name, field) in fields.iter().filter(|_| !is_open) {
            let inner = named(name).or(others).ok_or(format!("{name:?} is not described"))?;
            self.fits(inner, field).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    fn flatten<'a>(&'a self, schema: &'a Value, parts: &mut Vec<&'a Value>) {
        let schema = self.resolved(schema);
        match schema["allOf"].as_array() {
            Some(all) => all.iter().for_each(|part| self.flatten(part, parts)),
            None => parts.push(schema),
        }
    }

    fn status(&self, method: &str, path: &str) -> u16 {
        let path = path.replace("{name}", "web").replace("{command}", "pause");
        let mut conn = Conn::open(self.app.admin);
        let ask = Ask::new(&method.to_uppercase(), &path).header("connection", "close");
        conn.write(&ask.bytes());
        // The head is enough: events have no end.
        conn.read_head().expect("an answer").status
    }
}

#[test]
fn every_described_path_is_served_by_the_described_methods_alone() {
    let (described, _load) = described();
    described.app.command("web", "start");
    let paths = described.document["paths"].as_object().expect("it has paths");
    assert!(paths.len() >= 13, "{:?}", paths.keys());
    for (path, methods) in paths {
        for method in METHODS {
            let status = described.status(method, path);
            if methods[method].is_object() {
                assert!(![404, 405].contains(&status), "{method} {path} is described and answers {status}");
            } else {
                assert_eq!(status, 405, "{method} {path} is not described");
            }
        }
    }
}

#[test]
fn answers_are_as_described_to_the_last_key() {
    let (described, load) = described();
    described.get_as_described("/rollouts/web", "/rollouts/{name}");
    described.app.command("web", "start");
    load.pass(500);
    let running = described.get_as_described("/rollouts/web", "/rollouts/{name}");
    assert_eq!(running["phase"], "running");
    assert!(running["tests"].as_array().is_some_and(|tests| !tests.is_empty()), "{running}");
    for path in ["/rollouts", "/splits", "/ready", "/server_info", "/config_dump", "/openapi.json"] {
        described.get_as_described(path, path);
    }
    let reload = described.app.post("/reload");
    assert_eq!(reload.status, 200, "{}", reload.text());
    let schema = described.schema("/reload", "post", "200", "application/json");
    described.check("/reload", schema, &reload.json());
    let refused = described.app.get("/rollouts/nobody");
    let schema = described.schema("/rollouts/{name}", "get", "404", "application/json");
    described.check("404", schema, &refused.json());
}

#[test]
fn the_description_of_a_rollout_names_its_keys_and_says_which_are_always_there() {
    let (described, _load) = described();
    let detail = described.app.rollout("web");
    let keys: Vec<&String> = detail.as_object().expect("an object").keys().collect();
    let mut parts = Vec::new();
    let schema = described.schema("/rollouts/{name}", "get", "200", "application/json");
    described.flatten(schema, &mut parts);
    let mut required: Vec<&str> = parts
        .iter()
        .flat_map(|part| part["required"].as_array().expect("an object's schema"))
        .filter_map(Value::as_str)
        .collect();
    required.sort_unstable();
    let mut keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(required, keys);
}

#[test]
fn events_are_as_described() {
    let (described, load) = described();
    let mut conn = Conn::open(described.app.admin);
    conn.write(&Ask::get("/events").bytes());
    assert_eq!(conn.read_head().expect("a head").status, 200);
    load.pass(10);
    described.app.command("web", "start");
    described.app.command("web", "abort");
    let schema = described.schema("/events", "get", "200", "text/event-stream");
    let mut kinds = Vec::new();
    let lines = BufReader::new(&conn.stream).lines().map(|line| line.expect("the stream goes on"));
    for line in lines {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let told: Value = serde_json::from_str(data.trim()).expect("an event's data is JSON");
        described.check("an event", schema, &told);
        kinds.push(told["kind"].as_str().unwrap_or_default().to_owned());
        if kinds.last().is_some_and(|kind| kind == "aborted") {
            break;
        }
    }
    assert_eq!(kinds.first().map(String::as_str), Some("started"), "{kinds:?}");
}
