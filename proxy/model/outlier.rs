//! How a version's endpoints are judged by the answers that they give to users,
//! and how long one that fails is left alone.

use std::time::Duration;

use serde::Serialize;

/// Names and meanings are Envoy's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// How often ejections are looked through and success rates compared.
    pub interval: Duration,
    /// Multiplied by how often the endpoint has been ejected lately.
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    /// Each ejection is longer by up to this.
    pub max_ejection_time_jitter: Duration,
    /// Of all endpoints of the version.
    pub max_ejection_percent: u32,
    /// One may be ejected whatever that percentage says.
    pub always_eject_one: bool,
    /// Failures in a row; a fault of ours counts as 502, 503 or 504.
    pub consecutive_5xx: Threshold,
    /// 502, 503 and 504 in a row.
    pub consecutive_gateway_failure: Threshold,
    /// Connections that failed are counted for themselves and not as answers.
    pub split_local_origin: bool,
    /// Then: failures to connect, resets and timeouts in a row.
    pub consecutive_local_origin_failure: Threshold,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
    /// A passed health check ends an ejection.
    pub uneject_on_health_check: bool,
}

/// After how many, and which percentage of such findings is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Threshold {
    pub count: u32,
    pub enforcing: u32,
}

/// Ejects who is worse than the mean by more than so many deviations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SuccessRate {
    /// Endpoints with enough requests, at least; fewer are not compared.
    pub minimum_hosts: u32,
    /// Requests in one interval, at least; who has fewer is not compared.
    pub request_volume: u32,
    /// In thousandths of a standard deviation.
    pub stdev_factor: u32,
    pub enforcing: u32,
    /// For failures to connect, where these are counted for themselves.
    pub enforcing_local_origin: u32,
}

/// Ejects who fails so many of its requests, whatever the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FailurePercentage {
    pub threshold: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
    pub enforcing: u32,
    pub enforcing_local_origin: u32,
}

impl Default for Outlier {
    /// Envoy's values, but for `always_eject_one`: under its own default of ten
    /// percent Envoy ejects nothing from fewer than ten endpoints.
    fn default() -> Outlier {
        Outlier {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one: true,
            consecutive_5xx: Threshold { count: 5, enforcing: 100 },
            consecutive_gateway_failure: Threshold { count: 5, enforcing: 0 },
            split_local_origin: false,
            consecutive_local_origin_failure: Threshold { count: 5, enforcing: 100 },
            success_rate: SuccessRate {
                minimum_hosts: 5,
                request_volume: 100,
                stdev_factor: 1900,
                enforcing: 100,
                enforcing_local_origin: 100,
            },
            failure_percentage: FailurePercentage {
                threshold: 85,
                minimum_hosts: 5,
                request_volume: 50,
                enforcing: 0,
                enforcing_local_origin: 0,
            },
            uneject_on_health_check: true,
        }
    }
}
