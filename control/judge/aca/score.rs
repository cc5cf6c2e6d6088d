//! Findings into groups, groups into one score. The arithmetic is Kayenta's, with
//! its traps: errors count for nothing, a group without findings that count gives
//! its whole weight, and a configured group without any finding takes its weight
//! away.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::classify::Label;

/// From which score on it passes, and from which on it is still no failure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    pub pass: f64,
    pub marginal: f64,
}

/// What scoring needs to know of one finding that is not muted.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored<'f> {
    pub groups: &'f [String],
    pub label: Label,
    pub critical: bool,
    pub reason: &'f str,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub score: f64,
    pub grade: Grade,
    pub reason: String,
    pub groups: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Pass,
    Marginal,
    Fail,
}

#[derive(Clone, Copy, Default)]
struct Group {
    passed: u32,
    counted: u32,
}

pub fn score(findings: &[Scored], weights: &BTreeMap<String, f64>, by: Thresholds) -> Score {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for finding in findings {
        for name in finding.groups {
            groups.entry(name).or_default().count(finding.label);
        }
    }
    let (score, reason) = summary(findings, &groups, weights);
    let grade = match score {
        score if score >= by.pass => Grade::Pass,
        score if score >= by.marginal => Grade::Marginal,
        _ => Grade::Fail,
    };
    let groups = groups.iter().map(|(name, group)| ((*name).to_owned(), group.percent().unwrap_or(0.0)));
    Score { score, grade, reason, groups: groups.collect() }
}

impl Group {
    fn count(&mut self, label: Label) {
        self.passed += u32::from(label == Label::Pass);
        let counts = matches!(label, Label::Pass | Label::High | Label::Low | Label::NoDataFails);
        self.counted += u32::from(counts);
    }

    /// None where nothing counts.
    fn percent(self) -> Option<f64> {
        (self.counted > 0).then(|| 100.0 * f64::from(self.passed) / f64::from(self.counted))
    }
}

fn summary(
    findings: &[Scored],
    groups: &BTreeMap<&str, Group>,
    weights: &BTreeMap<String, f64>,
) -> (f64, String) {
    let failed = |finding: &&Scored| finding.critical && finding.label != Label::Pass;
    if let Some(finding) = findings.iter().find(failed) {
        return (0.0, format!("a critical metric failed: {}", finding.reason));
    }
    let without = findings.iter().filter(|finding| finding.label == Label::NoData).count();
    if !findings.is_empty() && 2 * without >= findings.len() {
        return (0.0, format!("{without} of {} metrics have no data", findings.len()));
    }
    let unweighted = groups.keys().filter(|name| !weights.contains_key(**name)).count();
    let rest = (100.0 - weights.values().sum::<f64>()) / unweighted.max(1) as f64;
    let weigh = |(name, group): (&&str, &Group)| {
        group.percent().unwrap_or(100.0) * weights.get(*name).copied().unwrap_or(rest) / 100.0
    };
    // Half a hundredth goes up.
    let score = (groups.iter().map(weigh).sum::<f64>() * 100.0 + 0.5).floor() / 100.0;
    (score, describe(findings))
}

fn describe(findings: &[Scored]) -> String {
    let bad: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.label != Label::Pass)
        .map(|finding| finding.reason)
        .collect();
    bad.into_iter().collect::<Vec<_>>().join("; ")
}
