//! A route's gates, compiled: what may stop a request before any version.

use std::sync::Arc;

use crate::cors::Cors;
use crate::inject::Inject;
use crate::limit::Bucket;
use crate::limit::Limit;
use crate::model::Match;
use crate::model::RateLimit;
use crate::model::Route;
use crate::predicate::Conditions;

pub struct Gates {
    pub cors: Option<Cors>,
    pub limit: Option<Limit>,
    /// And of which requests.
    pub inject: Option<(Conditions, Inject)>,
}

impl Gates {
    /// `None` for a route without any. `bucket` finds the live one of a limit.
    pub fn new(
        route: &Route,
        bucket: impl FnOnce(&RateLimit) -> Option<Arc<Bucket>>,
    ) -> Result<Option<Box<Gates>>, (&'static str, String)> {
        let cors = route.cors.as_ref().map(Cors::new).transpose().map_err(|text| ("cors", text))?;
        let limit = route.rate_limit.as_ref().map(|model| Limit::new(model, bucket(model)));
        let limit = limit.transpose().map_err(|text| ("rate_limit", text))?;
        let inject = route.faults.as_ref().map(|faults| {
            let when = Match { predicates: faults.when.clone(), ..Match::default() };
            Ok((Conditions::new(&when)?, Inject::new(faults)?))
        });
        let inject = inject.transpose().map_err(|text: String| ("faults", text))?;
        let any = cors.is_some() || limit.is_some() || inject.is_some();
        Ok(any.then(|| Box::new(Gates { cors, limit, inject })))
    }
}
