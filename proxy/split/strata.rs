//! Parts of a split's traffic whose failures are counted apart, because somebody asked
//! for it: requests of a route, or with a value in a header. A request is of the first
//! part that fits it, or of none.

use http::header::HeaderName;

use std::sync::Arc;
use std::sync::OnceLock;

use crate::head::Head;
use crate::model::Stratum;
use crate::model::StratumOn;
use crate::reading::ArmReading;
use crate::tally::Count;

/// Parts told apart in one split. Each has its part of the budget for errors, so more
/// would see less.
pub const MAX_STRATA: usize = 16;

#[derive(Default)]
pub struct Strata {
    all: Vec<On>,
    pub names: Arc<[String]>,
}

enum On {
    Route(String),
    Header(HeaderName, String),
}

impl Strata {
    pub fn new(strata: &[Stratum]) -> Result<Strata, String> {
        if strata.len() > MAX_STRATA {
            return Err(format!("{} parts are more than {MAX_STRATA}", strata.len()));
        }
        let on = |stratum: &Stratum| match &stratum.on {
            StratumOn::Route(route) => Ok(On::Route(route.clone())),
            StratumOn::Header { name, value } => {
                let name =
                    HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?;
                Ok(On::Header(name, value.clone()))
            }
        };
        Ok(Strata {
            all: strata.iter().map(on).collect::<Result<_, String>>()?,
            names: strata.iter().map(|stratum| stratum.name.clone()).collect(),
        })
    }

    /// The part that a request of this route is of.
    pub fn of(&self, route: &str, head: &Head<'_>) -> Option<u8> {
        let at = self.all.iter().position(|on| match on {
            On::Route(name) => name == route,
            On::Header(name, value) => head.fields(name).any(|given| given == value.as_bytes()),
        })?;
        u8::try_from(at).ok()
    }
}

/// What became of one version's requests, part by part. Takes its memory with the
/// first.
#[derive(Default)]
pub struct Parts(OnceLock<Box<[Part]>>);

#[derive(Default)]
pub struct Part {
    pub dispatched: Count,
    pub ok: Count,
    pub failed: Count,
    pub failed_units: Count,
    pub aborted: Count,
}

impl Parts {
    pub fn part(&self, at: u8) -> &Part {
        let parts = self.0.get_or_init(|| (0..MAX_STRATA).map(|_| Part::default()).collect());
        &parts[usize::from(at)]
    }

    pub fn add_to(&self, at: usize, sum: &mut ArmReading) {
        let Some(part) = self.0.get().map(|parts| &parts[at]) else { return };
        // Endings before beginnings, as of all requests.
        sum.ok += part.ok.get();
        sum.failed += part.failed.get();
        sum.failed_units += part.failed_units.get();
        sum.aborted += part.aborted.get();
        sum.dispatched += part.dispatched.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_of_the_first_part_that_fits() {
        let stratum = |name: &str, on| Stratum { name: name.to_owned(), on };
        let tenant = |value: &str| StratumOn::Header { name: "x-tenant".into(), value: value.into() };
        let strata = Strata::new(&[
            stratum("route checkout", StratumOn::Route("checkout".into())),
            stratum("x-tenant a", tenant("a")),
            stratum("x-tenant b", tenant("b")),
        ])
        .unwrap();
        let of = |route: &str, tenant: &'static str| {
            let field = httparse::Header { name: "x-tenant", value: tenant.as_bytes() };
            strata.of(route, &Head::of_list("GET", "/", "shop", &[field]))
        };
        assert_eq!(of("checkout", "b"), Some(0));
        assert_eq!(of("all", "b"), Some(2));
        assert_eq!(of("all", "c"), None);
        let many = vec![stratum("x", tenant("x")); MAX_STRATA + 1];
        assert!(Strata::new(&many).is_err());
    }
}
