//! Rules that take a request out of the others: a force rule names its version
//! outright, a trial's rules only while a rollout has them hold, and then with
//! the chance that it gives them.

use http::header::HeaderName;
use ipnet::IpNet;

use crate::head::Head;
use crate::model;
use crate::model::Force;
use crate::model::ForceOn;
use crate::predicate::Question;
use crate::rewrite::Peer;
use crate::text::Pattern;

pub struct ForceRule {
    on: On,
    value: Pattern,
    pub version: usize,
}

enum On {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Source(Vec<IpNet>),
}

impl ForceRule {
    pub fn new(force: &Force, version: usize) -> Result<ForceRule, String> {
        let on = match &force.on {
            ForceOn::Header(name) => On::Header(
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            ForceOn::Cookie(name) => On::Cookie(name.clone()),
            ForceOn::Query(name) => On::Query(name.clone()),
            ForceOn::Source(networks) => On::Source(networks.clone()),
        };
        Ok(ForceRule { on, value: Pattern::new(&force.value)?, version })
    }

    pub fn applies(&self, head: &Head<'_>, peer: &Peer) -> bool {
        match &self.on {
            On::Header(name) => head.fields(name).any(|value| self.value.matches(value)),
            On::Cookie(name) => head.cookie(name).is_some_and(|value| self.value.matches(value)),
            On::Query(name) => head.parameter(name).is_some_and(|value| self.value.matches(value.as_bytes())),
            On::Source(networks) => comes_from(networks, peer),
        }
    }
}

pub struct Trial {
    pub version: usize,
    rules: Vec<Rule>,
}

struct Rule {
    questions: Vec<Question>,
    sources: Vec<IpNet>,
}

impl Trial {
    pub fn new(trial: &model::Trial, version: usize) -> Result<Trial, String> {
        let rule = |rule: &model::Rule| {
            let questions = rule.predicates.iter().map(Question::new).collect::<Result<_, _>>()?;
            Ok(Rule { questions, sources: rule.sources.clone() })
        };
        Ok(Trial { version, rules: trial.rules.iter().map(rule).collect::<Result<_, String>>()? })
    }

    pub fn applies(&self, head: &Head<'_>, peer: &Peer) -> bool {
        self.rules.iter().any(|rule| {
            rule.questions.iter().all(|question| question.holds(head))
                && (rule.sources.is_empty() || comes_from(&rule.sources, peer))
        })
    }
}

fn comes_from(networks: &[IpNet], peer: &Peer) -> bool {
    let address = peer.remote.ip().to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
