//! A service of the file while it is read, and who its versions are.

use serin_proxy::model::{OutcomeRules, Retry, Role, Service, Split};

use crate::answers::Settings;
use crate::config::fields::Spot;
use crate::config::fields::nearest;

/// A service of the file and the split of the same name over its versions.
pub struct Site<'t> {
    pub at: Spot<'t>,
    pub service: Service,
    pub split: Split,
    /// How answers are compared, where they are.
    pub compared: Option<Settings>,
    /// For all of its routes that do not say otherwise.
    pub retry: Option<Retry>,
    /// The same of what counts as a failure.
    pub outcome: Option<OutcomeRules>,
    /// The file says whether to shield, so a rollout does not decide it.
    pub shield_said: bool,
    /// Weights were given, other than all on the primary.
    pub shared_out: bool,
    /// Its versions could not be read; what depends on them stays unsaid.
    pub broken: bool,
}

impl Site<'_> {
    pub fn of_role(&self, role: Role) -> Vec<&str> {
        let of_role = self.service.versions.iter().filter(|version| version.role == role);
        of_role.map(|version| version.name.as_str()).collect()
    }

    /// The version of this name, or a problem at the place that names it.
    pub fn version(&self, name: &str, at: &Spot) -> Option<String> {
        let names: Vec<&str> = self.service.versions.iter().map(|version| version.name.as_str()).collect();
        if names.contains(&name) {
            return Some(name.to_owned());
        }
        at.error(match nearest(name, names.iter().copied()) {
            Some(meant) => format!("there is no version `{name}`, did you mean `{meant}`?"),
            None => format!("there is no version `{name}`; versions are {}", names.join(", ")),
        });
        None
    }
}
