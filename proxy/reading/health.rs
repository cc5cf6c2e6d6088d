//! How the endpoints of each version fare: what is known of them, and what they
//! answered.

use serde::{Deserialize, Serialize};

/// How the endpoints of one version fare.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthReading {
    pub service: String,
    pub version: String,
    /// So few are well that all are asked.
    pub panics: bool,
    /// None is well.
    pub down: bool,
    /// Active checks by how they ended.
    pub checks: Vec<(String, u64)>,
    /// Outliers found, by cause and by what was done about them.
    pub ejections: Vec<(String, String, u64)>,
    pub endpoints: Vec<EndpointReading>,
}

/// One endpoint: what is known of it, and attempts at it by how they ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointReading {
    pub address: String,
    pub hostname: Option<String>,
    pub weight: u32,
    pub priority: u32,
    pub healthy: bool,
    /// What is held against it, in Envoy's words.
    pub flags: Vec<String>,
    /// Answered, with less than 500.
    pub success: u64,
    /// Answered with 500 or above.
    pub error: u64,
    /// Could not be reached, or broke the connection.
    pub unreached: u64,
    /// Did not answer in time.
    pub late: u64,
    pub ejections: u64,
    /// In percent, over the last interval with enough requests.
    pub success_rate: Option<f64>,
    /// How its last active check went.
    pub last_check: Option<String>,
}

impl EndpointReading {
    pub fn failures(&self) -> u64 {
        self.error + self.unreached + self.late
    }
}

impl HealthReading {
    pub fn is_same(&self, other: &HealthReading) -> bool {
        (&self.service, &self.version) == (&other.service, &other.version)
    }

    /// Adds what a predecessor counted; how things stand is ours to say.
    pub fn add(&mut self, before: &HealthReading) {
        for (result, count) in &mut self.checks {
            let theirs = before.checks.iter().find(|(other, _)| other == result);
            *count += theirs.map_or(0, |(_, count)| *count);
        }
        for (cause, result, count) in &mut self.ejections {
            let theirs = before.ejections.iter().find(|(other, how, _)| (&*cause, &*result) == (other, how));
            *count += theirs.map_or(0, |(_, _, count)| *count);
        }
        for mine in &mut self.endpoints {
            if let Some(theirs) = before.endpoints.iter().find(|theirs| theirs.address == mine.address) {
                mine.success += theirs.success;
                mine.error += theirs.error;
                mine.unreached += theirs.unreached;
                mine.late += theirs.late;
                mine.ejections += theirs.ejections;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(address: &str, success: u64) -> HealthReading {
        let endpoint = EndpointReading {
            address: address.into(),
            hostname: None,
            weight: 1,
            priority: 0,
            healthy: true,
            flags: Vec::new(),
            success,
            error: 1,
            unreached: 2,
            late: 3,
            ejections: 4,
            success_rate: None,
            last_check: None,
        };
        HealthReading {
            service: "web".into(),
            version: "canary".into(),
            panics: false,
            down: false,
            checks: vec![("passed".into(), success)],
            ejections: vec![("success_rate".into(), "ejected".into(), success)],
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn what_a_predecessor_counted_is_added_by_address() {
        let mut mine = reading("127.0.0.1:1", 10);
        mine.add(&reading("127.0.0.1:1", 5));
        assert_eq!((mine.checks[0].1, mine.ejections[0].2), (15, 15));
        assert_eq!((mine.endpoints[0].success, mine.endpoints[0].failures()), (15, 12));
        mine.add(&reading("127.0.0.1:2", 7));
        assert_eq!(mine.endpoints[0].success, 15, "another endpoint's is not its own");
    }
}
