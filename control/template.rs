//! Templates of messages and queries, in the words of those who wrote them.
//!
//! One engine renders all. The queries of other tools are Go templates or plain
//! substitutions and differ from its own language in two ways that matter: Go
//! puts a dot before a name (`{{ .App.Name }}`), and Argo's names may hold a hyphen
//! (`{{args.service-name}}`). Both are rewritten to what they mean. A name that
//! nobody has given is an error and never an empty text.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

/// What a rendering may cost; a template cannot keep us busy.
const FUEL: u64 = 100_000;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

/// Whether the text can be rendered at all.
pub fn check(text: &str) -> Result<(), Wrong> {
    let text = rewritten(text);
    environment().template_from_str(&text).map(|_| ()).map_err(|cause| wrong(&cause))
}

/// With `context` as the names that it may use.
pub fn render(text: &str, context: impl Serialize) -> Result<String, Wrong> {
    let text = rewritten(text);
    environment().render_str(&text, minijinja::value::Serde(context)).map_err(|cause| wrong(&cause))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment
}

fn wrong(cause: &minijinja::Error) -> Wrong {
    Wrong(cause.to_string())
}

/// Dots before names and hyphens in Argo's, as the engine says them.
fn rewritten(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, tagged) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tagged.find("}}") else {
            out.push_str(tagged);
            return out;
        };
        out.push_str("{{");
        out.push_str(&expression(&tagged[2..end]));
        out.push_str("}}");
        rest = &tagged[end + 2..];
    }
    out.push_str(rest);
    out
}

fn expression(text: &str) -> String {
    let name = text.trim();
    let is_plain = |name: &str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || "-_".contains(letter))
    };
    if let Some(argument) = name.strip_prefix("args.").filter(|argument| is_plain(argument)) {
        return format!(" args[{argument:?}] ");
    }
    // Only where a name begins: `1.5` and `"a.b"` keep their dots.
    let mut out = String::with_capacity(text.len());
    let (mut before, mut quoted) = (' ', None);
    for letter in text.chars() {
        match quoted {
            Some(quote) if letter == quote => quoted = None,
            None if letter == '"' || letter == '\'' => quoted = Some(letter),
            _ => {}
        }
        let begins = quoted.is_none() && letter == '.' && (before.is_whitespace() || "(-|,".contains(before));
        if !begins {
            out.push(letter);
        }
        before = letter;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_three_tools_queries_come_out_as_they_mean_them() {
        let names = json!({
            "namespace": "test", "target": "podinfo", "interval": "1m", "variables": {"direction": "inbound"},
            "args": {"service-name": "shop", "x": "1"},
            "App": {"Name": "pay"}, "VariantCustomArgs": {"job": "canary"},
        });
        let rendered = |text: &str| render(text, &names).unwrap();
        assert_eq!(
            rendered(
                r#"rate(x{ns="{{ namespace }}",w=~"{{ target }}",d="{{ variables.direction }}"}[{{ interval }}])"#
            ),
            r#"rate(x{ns="test",w=~"podinfo",d="inbound"}[1m])"#
        );
        assert_eq!(rendered("sum(a{s=\"{{args.service-name}}\"}) > {{ args.x }}"), "sum(a{s=\"shop\"}) > 1");
        assert_eq!(rendered("{{ .App.Name }}-{{ .VariantCustomArgs.job }}-{{.App.Name}}"), "pay-canary-pay");
        assert_eq!(rendered("a{b=~\"x-[0-9]{2}\"}"), "a{b=~\"x-[0-9]{2}\"}", "braces of PromQL stay");
    }

    #[test]
    fn a_name_that_nobody_gave_is_an_error() {
        for text in ["{{ namespase }}", "{{args.gone}}", "{{ .Variant.Name }}", "{{ variables.x }}"] {
            assert!(render(text, json!({"variables": {}, "args": {}})).is_err(), "{text}");
        }
        assert!(check("{{ open").is_err() && check("{% if %}").is_err());
    }

    #[test]
    fn a_message_can_be_written_as_json() {
        let text = r#"{"text": {{ text | tojson }}, "n": {{ figures | length }}}"#;
        let names = json!({"text": "a \"quoted\"\nline", "figures": [1, 2]});
        let value: serde_json::Value = serde_json::from_str(&render(text, names).unwrap()).unwrap();
        assert_eq!(value, json!({"text": "a \"quoted\"\nline", "n": 2}));
    }

    #[test]
    fn a_template_cannot_run_for_ever() {
        let text = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(render(text, json!({})).is_err());
    }
}
