//! A header's value with Envoy's command operators: read once, filled in for
//! each message. An operator that is not known is an error, never a gap.

use std::fmt::Display;
use std::io::Write;

use http::header::HeaderName;

use crate::clock;
use crate::edit::Answered;
use crate::edit::Scene;
use crate::edit::fields::Asked;
use crate::edit::fields::Fields;
use crate::edit::moment::Format;

pub struct Template {
    parts: Vec<Part>,
}

enum Part {
    Text(Vec<u8>),
    Asking(Asking),
    /// What an `Asking` of this number has answered when the request was there.
    Kept(usize),
    Answering(Answering),
}

/// What is asked of the request and its ways.
pub enum Asking {
    Remote(Shown),
    /// At the other end of the connection, whoever is told of.
    Direct(Shown),
    Local(Shown),
    Field(Selector),
    Protocol,
    Route,
    Version,
    Moment(Format),
}

/// What is asked of the answer.
pub enum Answering {
    Status,
    Field(Selector),
    Upstream,
    Version,
}

/// Which part of an address.
#[derive(Clone, Copy)]
pub enum Shown {
    Whole,
    WithoutPort,
    Port,
}

/// A field, another in its place where it is missing, and how much of it.
pub struct Selector {
    name: Name,
    otherwise: Option<Name>,
    most: usize,
}

enum Name {
    Method,
    Path,
    Authority,
    Scheme,
    Status,
    Field(HeaderName),
}

/// Where answers are to be found; what is not there answers with nothing.
#[derive(Default)]
pub struct Facts<'a> {
    pub request: Option<(&'a dyn Asked, &'a Scene<'a>)>,
    pub kept: &'a [Vec<u8>],
    pub answer: Option<(&'a dyn Fields, &'a Answered<'a>)>,
}

impl Template {
    pub fn of_request(text: &str) -> Result<Template, String> {
        Template::read(text, &mut |operator| match operator {
            Operator::Text(text) => Ok(Part::Text(text.into_bytes())),
            Operator::Asking(asking) => Ok(Part::Asking(asking)),
            Operator::Answering(name) => Err(format!("%{name}% is known only of answers")),
        })
    }

    pub fn of_answer(text: &str, kept: &mut Vec<Asking>) -> Result<Template, String> {
        Template::read(text, &mut |operator| {
            Ok(match operator {
                Operator::Text(text) => Part::Text(text.into_bytes()),
                // The version that answers, which may be another than was asked first.
                Operator::Asking(Asking::Version) => Part::Answering(Answering::Version),
                Operator::Asking(asking) => {
                    kept.push(asking);
                    Part::Kept(kept.len() - 1)
                }
                Operator::Answering(name) => Part::Answering(answering(&name)?),
            })
        })
    }

    /// The value where it is always the same.
    pub fn fixed(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub fn fill(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Asking(asking) => {
                    if let Some((request, scene)) = facts.request {
                        asking.fill(request, scene, out);
                    }
                }
                Part::Kept(index) => out.extend(facts.kept.get(*index).into_iter().flatten()),
                Part::Answering(answering) => {
                    if let Some((fields, answered)) = facts.answer {
                        answering.fill(fields, answered, out);
                    }
                }
            }
        }
    }

    fn read(text: &str, part: &mut dyn FnMut(Operator) -> Result<Part, String>) -> Result<Template, String> {
        if text.bytes().any(is_control) {
            return Err("a header's value is one line without control characters".to_owned());
        }
        let mut template = Template { parts: Vec::new() };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            template.push(Part::Text(before.as_bytes().to_vec()));
            if let Some(after) = after.strip_prefix('%') {
                template.push(Part::Text(b"%".to_vec()));
                rest = after;
                continue;
            }
            let (command, after) = command(after)
                .ok_or_else(|| format!("`%` in {text:?} begins no operator; a percent sign is `%%`"))?;
            template.push(part(operator(&command)?)?);
            rest = after;
        }
        template.push(Part::Text(rest.as_bytes().to_vec()));
        Ok(template)
    }

    /// Texts side by side are one.
    fn push(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (_, Part::Text(text)) if text.is_empty() => {}
            (Some(Part::Text(before)), Part::Text(text)) => before.extend(text),
            (_, part) => self.parts.push(part),
        }
    }
}

impl Asking {
    pub fn answer(&self, request: &dyn Asked, scene: &Scene<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.fill(request, scene, &mut out);
        out
    }

    fn fill(&self, request: &dyn Asked, scene: &Scene<'_>, out: &mut Vec<u8>) {
        match self {
            Asking::Remote(shown) => address(Some(scene.client), *shown, out),
            Asking::Direct(shown) => address(Some(scene.peer.remote), *shown, out),
            Asking::Local(shown) => address(scene.peer.local, *shown, out),
            Asking::Field(selector) => selector.fill(|name| of_request(request, name), out),
            // As Envoy writes it.
            Asking::Protocol if scene.protocol == http::Version::HTTP_2 => out.extend_from_slice(b"HTTP/2"),
            Asking::Protocol => show(&format_args!("{:?}", scene.protocol), out),
            Asking::Route => out.extend_from_slice(scene.route.as_bytes()),
            Asking::Version => out.extend_from_slice(scene.version.as_bytes()),
            Asking::Moment(format) => format.show(clock::since_epoch(), out),
        }
    }
}

impl Answering {
    fn fill(&self, fields: &dyn Fields, answered: &Answered<'_>, out: &mut Vec<u8>) {
        match self {
            Answering::Status => show(&answered.status, out),
            Answering::Upstream => {
                if let Some(upstream) = answered.upstream {
                    show(upstream, out);
                }
            }
            Answering::Version => out.extend_from_slice(answered.version.as_bytes()),
            Answering::Field(selector) => {
                let status = answered.status.to_string();
                let value = |name: &Name| match name {
                    Name::Status => Some(status.clone().into_bytes()),
                    Name::Field(name) => fields.first(name).map(<[u8]>::to_vec),
                    Name::Method | Name::Path | Name::Authority | Name::Scheme => None,
                };
                selector.fill(value, out);
            }
        }
    }
}

fn of_request(request: &dyn Asked, name: &Name) -> Option<Vec<u8>> {
    const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    let value = match name {
        Name::Method => request.method().as_bytes(),
        Name::Path => request.target().as_bytes(),
        Name::Authority => request.authority().as_bytes(),
        Name::Scheme => request.field(&FORWARDED_PROTO).unwrap_or(b"http"),
        Name::Field(name) => request.field(name)?,
        Name::Status => return None,
    };
    Some(value.to_vec())
}

fn address(address: Option<std::net::SocketAddr>, shown: Shown, out: &mut Vec<u8>) {
    let Some(address) = address else { return };
    match shown {
        Shown::Whole => show(&address, out),
        Shown::WithoutPort => show(&address.ip(), out),
        Shown::Port => show(&address.port(), out),
    }
}

fn show(value: &dyn Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("memory takes every byte");
}

impl Selector {
    fn fill(&self, value: impl Fn(&Name) -> Option<Vec<u8>>, out: &mut Vec<u8>) {
        let found = value(&self.name).or_else(|| self.otherwise.as_ref().and_then(value));
        let found = found.unwrap_or_default();
        out.extend_from_slice(&found[..found.len().min(self.most)]);
    }

    /// `NAME`, `NAME?OTHERWISE`.
    fn read(argument: &str, most: Option<usize>) -> Result<Selector, String> {
        let (name, otherwise) = match argument.split_once('?') {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (argument, None),
        };
        let otherwise = otherwise.map(Name::read).transpose()?;
        Ok(Selector { name: Name::read(name)?, otherwise, most: most.unwrap_or(usize::MAX) })
    }
}

impl Name {
    fn read(text: &str) -> Result<Name, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            ":method" => Name::Method,
            ":path" => Name::Path,
            ":authority" | "host" => Name::Authority,
            ":scheme" => Name::Scheme,
            ":status" => Name::Status,
            name => {
                Name::Field(HeaderName::try_from(name).map_err(|_| format!("{text:?} is no header name"))?)
            }
        })
    }
}

/// An operator as it is written: `NAME`, `NAME(argument)`, `NAME(argument):7`.
struct Command<'t> {
    name: &'t str,
    argument: Option<&'t str>,
    most: Option<usize>,
}

/// Reads up to the closing percent sign; answers with what follows it.
fn command(text: &str) -> Option<(Command<'_>, &str)> {
    let length = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = text.split_at(length);
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (inside, after) = inside.split_once(')')?;
        (argument, rest) = (Some(inside), after);
    }
    let mut most = None;
    if let Some(number) = rest.strip_prefix(':') {
        let (number, _) = number.split_once('%')?;
        most = Some(number.parse().ok()?);
        rest = &rest[1 + number.len()..];
    }
    let rest = rest.strip_prefix('%')?;
    (!name.is_empty()).then_some((Command { name, argument, most }, rest))
}

enum Operator {
    Text(String),
    Asking(Asking),
    /// By its name; whether it is one is found out where it may stand.
    Answering(String),
}

fn operator(command: &Command<'_>) -> Result<Operator, String> {
    let Command { name, argument, most } = command;
    let needed = || argument.ok_or_else(|| format!("%{name}% needs an argument: %{name}(...)%"));
    if argument.is_some() && !["REQ", "RESP", "START_TIME", "ENVIRONMENT"].contains(name) {
        return Err(match *name {
            "DYNAMIC_METADATA" | "FILTER_STATE" | "UPSTREAM_METADATA" | "CLUSTER_METADATA" => {
                format!("%{name}% is not supported: serin has no filters that could set it")
            }
            _ => format!("%{name}% is no operator with an argument"),
        });
    }
    if most.is_some() && !["REQ", "RESP"].contains(name) {
        return Err(format!("%{name}% cannot be cut to a length"));
    }
    Ok(Operator::Asking(match *name {
        "DOWNSTREAM_REMOTE_ADDRESS" => Asking::Remote(Shown::Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Asking::Remote(Shown::WithoutPort),
        "DOWNSTREAM_REMOTE_PORT" => Asking::Remote(Shown::Port),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Asking::Direct(Shown::Whole),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Asking::Direct(Shown::WithoutPort),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => Asking::Direct(Shown::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => Asking::Local(Shown::Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Asking::Local(Shown::WithoutPort),
        "DOWNSTREAM_LOCAL_PORT" => Asking::Local(Shown::Port),
        "REQ" => Asking::Field(Selector::read(needed()?, *most)?),
        "PROTOCOL" => Asking::Protocol,
        "ROUTE_NAME" => Asking::Route,
        "UPSTREAM_CLUSTER" => Asking::Version,
        "START_TIME" => Asking::Moment(Format::read(argument.unwrap_or_default())?),
        "HOSTNAME" => return Ok(Operator::Text(hostname())),
        "ENVIRONMENT" => return environment(needed()?).map(Operator::Text),
        "RESP" => {
            let length = most.map_or(String::new(), |most| format!(":{most}"));
            return Ok(Operator::Answering(format!("RESP({}){length}", needed()?)));
        }
        "RESPONSE_CODE" | "UPSTREAM_HOST" => return Ok(Operator::Answering((*name).to_owned())),
        _ => return Err(format!("%{name}% is no operator that serin knows")),
    }))
}

fn answering(written: &str) -> Result<Answering, String> {
    let (name, rest) = written.split_once('(').unwrap_or((written, ""));
    let (argument, most) = rest.split_once(')').unwrap_or((rest, ""));
    Ok(match name {
        "RESPONSE_CODE" => Answering::Status,
        "UPSTREAM_HOST" => Answering::Upstream,
        _ => Answering::Field(Selector::read(argument, most.strip_prefix(':').and_then(|m| m.parse().ok()))?),
    })
}

/// Nobody has checked it, and a value of two lines would be two fields.
fn environment(name: &str) -> Result<String, String> {
    let value = std::env::var(name).unwrap_or_default();
    match value.bytes().any(is_control) {
        true => Err(format!("the environment's {name} holds control characters")),
        false => Ok(value),
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
