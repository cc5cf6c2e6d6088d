//! Parts of a service's traffic whose failures are judged apart: routes by name,
//! requests by a header's value.

use serin_proxy::MAX_STRATA;
use serin_proxy::model;
use serin_proxy::model::Model;
use serin_proxy::model::Target;

use crate::config::fields::Fields;
use crate::config::fields::Spot;
use crate::config::fields::nearest;
use crate::judge::analysis::Stratum;
use crate::rollout::Spec;

use super::units;

const FIELDS: [&str; 3] = ["route", "header", "values"];

pub fn read(spot: &Spot) -> Vec<Stratum> {
    let strata: Vec<Stratum> = spot.list().unwrap_or_default().iter().flat_map(stratum).collect();
    if strata.len() > MAX_STRATA {
        spot.error(format!("{} parts of the traffic are more than {MAX_STRATA}", strata.len()));
    }
    if let Some(twice) = strata.iter().enumerate().find(|(at, part)| strata[..*at].contains(part)) {
        spot.error(format!("`{}` is there twice", twice.1.name()));
    }
    strata
}

fn stratum(spot: &Spot) -> Vec<Stratum> {
    let Some(fields) = spot.fields(&FIELDS) else { return Vec::new() };
    match fields.one_of(&["route", "header"]) {
        Some(("route", at)) => {
            if let Some(spot) = fields.get("values") {
                spot.error("values are those of a header");
            }
            at.text().map(|route| Stratum::Route(route.to_owned())).into_iter().collect()
        }
        Some((_, at)) => {
            let name = at.parsed(units::header);
            let values = fields.need("values").map(|spot| spot.one_or_more()).unwrap_or_default();
            let of =
                |spot: &Spot| Some(Stratum::Header { name: name.clone()?, value: spot.text()?.to_owned() });
            values.iter().filter_map(of).collect()
        }
        None => Vec::new(),
    }
}

/// As the proxy is to tell them apart.
pub fn told_apart(strata: &[Stratum]) -> Vec<model::Stratum> {
    let one = |stratum: &Stratum| {
        let on = match stratum {
            Stratum::Route(route) => model::StratumOn::Route(route.clone()),
            Stratum::Header { name, value } => {
                model::StratumOn::Header { name: name.clone(), value: value.clone() }
            }
        };
        model::Stratum { name: stratum.name(), on }
    };
    strata.iter().map(one).collect()
}

/// Routes have to lead to a service of the rollout. They are known when the whole
/// document is.
pub fn settle(document: &Fields, model: &Model, specs: &[Spec]) {
    for spec in specs.iter().filter(|spec| !spec.analysis.strata.is_empty()) {
        let routes: Vec<&str> = model
            .hosts
            .iter()
            .flat_map(|host| &host.routes)
            .filter(|route| matches!(&route.target, Target::Split(split) if spec.moves(split)))
            .map(|route| route.name.as_str())
            .collect();
        for stratum in &spec.analysis.strata {
            let Stratum::Route(route) = stratum else { continue };
            if routes.contains(&route.as_str()) {
                continue;
            }
            let hint = match nearest(route, routes.iter().copied()) {
                Some(meant) => format!(", did you mean `{meant}`?"),
                None => String::new(),
            };
            if let Some(spot) = spot_of(document, &spec.name) {
                spot.error(format!("no route `{route}` leads to a service of this rollout{hint}"));
            }
        }
    }
}

fn spot_of<'t>(document: &Fields<'t>, rollout: &str) -> Option<Spot<'t>> {
    let within = |spot: Spot<'t>, wanted: &str| {
        spot.entries().into_iter().find(|(name, _)| *name == wanted).map(|(_, spot)| spot)
    };
    ["analysis", "strata"].into_iter().try_fold(within(document.get("rollouts")?, rollout)?, within)
}
