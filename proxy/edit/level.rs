//! The header edits of one level, in Envoy's order: removals, then all values
//! from the head as it then is, then what is set, then what is added.

use std::borrow::Cow;

use http::header::HeaderName;

use crate::edit::fields::Fields;
use crate::edit::is_protected;
use crate::edit::template::Asking;
use crate::edit::template::Template;
use crate::model::HeaderEdits;
use crate::model::HeaderPut;
use crate::model::Put;

pub struct Level {
    remove: Vec<Removal>,
    put: Vec<Rule>,
}

enum Removal {
    Name(HeaderName),
    /// Of all names that begin so.
    Prefix(String),
}

struct Rule {
    name: HeaderName,
    value: Template,
    how: Put,
    keep_empty: bool,
}

impl Level {
    /// `None` where there is nothing to do.
    pub fn of_requests(edits: &HeaderEdits) -> Result<Option<Level>, String> {
        Level::new(edits, Template::of_request)
    }

    /// `kept` collects what must be known of the request.
    pub fn of_answers(edits: &HeaderEdits, kept: &mut Vec<Asking>) -> Result<Option<Level>, String> {
        Level::new(edits, |text| Template::of_answer(text, kept))
    }

    fn new(
        edits: &HeaderEdits,
        mut template: impl FnMut(&str) -> Result<Template, String>,
    ) -> Result<Option<Level>, String> {
        let remove = edits.remove.iter().map(|name| removal(name)).collect::<Result<_, _>>()?;
        let mut put = Vec::with_capacity(edits.put.len());
        for HeaderPut { name, value, how, keep_empty } in &edits.put {
            let value = template(value).map_err(|text| format!("{name}: {text}"))?;
            put.push(Rule { name: editable(name)?, value, how: *how, keep_empty: *keep_empty });
        }
        Ok((!edits.is_empty()).then_some(Level { remove, put }))
    }

    pub fn apply<M: Fields>(&self, message: &mut M, fill: impl Fn(&M, &Template, &mut Vec<u8>)) {
        for removal in &self.remove {
            match removal {
                Removal::Name(name) => message.remove(name),
                Removal::Prefix(prefix) => {
                    message.remove_where(&|name| {
                        let name = name.to_ascii_lowercase();
                        name.starts_with(prefix.as_str()) && !is_protected(&name)
                    });
                }
            }
        }
        let mut ready: Vec<(&Rule, Cow<'_, [u8]>)> = Vec::with_capacity(self.put.len());
        for rule in &self.put {
            let value = rule.value.fixed().map_or_else(
                || {
                    let mut value = Vec::new();
                    fill(message, &rule.value, &mut value);
                    Cow::Owned(value)
                },
                Cow::Borrowed,
            );
            let wanted = match rule.how {
                Put::Append | Put::Set => true,
                Put::SetIfAbsent => message.first(&rule.name).is_none(),
                Put::SetIfPresent => message.first(&rule.name).is_some(),
            };
            if wanted && (rule.keep_empty || !value.is_empty()) {
                ready.push((rule, value));
            }
        }
        for (rule, value) in &ready {
            if matches!(rule.how, Put::Set | Put::SetIfPresent) {
                message.set(&rule.name, value);
            }
        }
        for (rule, value) in &ready {
            if matches!(rule.how, Put::Append | Put::SetIfAbsent) {
                message.append(&rule.name, value);
            }
        }
    }
}

fn removal(name: &str) -> Result<Removal, String> {
    match name.strip_suffix('*') {
        None => editable(name).map(Removal::Name),
        Some(prefix) => match HeaderName::try_from(prefix) {
            Ok(prefix) => Ok(Removal::Prefix(prefix.as_str().to_owned())),
            Err(_) => Err(format!("{name:?} is no beginning of a header's name")),
        },
    }
}

fn editable(name: &str) -> Result<HeaderName, String> {
    if name.starts_with(':') {
        return Err(format!("{name} cannot be edited; path and host have rewrites"));
    }
    let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
    if is_protected(name.as_str()) {
        let why = if name == http::header::HOST {
            "it has a rewrite"
        } else {
            "it says how the message is sent, which is the proxy's to say"
        };
        return Err(format!("{name} cannot be edited: {why}"));
    }
    Ok(name)
}
