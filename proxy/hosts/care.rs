//! How a version looks after its endpoints: the terms of its checks and
//! ejections, and what upkeep does about what was found. Workers only leave
//! lessons with an endpoint and ring; all that follows happens here, on the
//! upkeep thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Flag;
use super::Host;
use super::Hosts;
use super::course::Course;
use super::course::Finding;
use super::course::Step;
use super::outlier::Bench;
use super::outlier::Cause;
use super::outlier::Event;
use super::outlier::Lesson;
use super::outlier::Ruling;
use super::vitals::Ends;
use crate::model::HealthCheck;
use crate::model::Outlier;
use crate::model::Version;
use crate::reading::EndpointReading;
use crate::reading::HealthReading;

pub struct Care {
    pub health: Option<HealthCheck>,
    pub outliers: Option<Outlier>,
    pub counts: Arc<CareCounts>,
    /// Changes when there is something for upkeep to see.
    bell: watch::Sender<u64>,
}

/// What happened since the process began.
#[derive(Default)]
pub struct CareCounts {
    /// By [`Finding`].
    checks: [AtomicU64; Finding::ALL.len()],
    /// By [`Cause`] and [`Ruling`].
    ejections: [[AtomicU64; Ruling::COUNTED.len()]; Cause::ALL.len()],
}

impl Care {
    pub fn new(version: &Version, previous: Option<&Care>) -> Arc<Care> {
        Arc::new(Care {
            health: version.health.clone(),
            outliers: version.outliers.clone(),
            counts: previous.map(|previous| previous.counts.clone()).unwrap_or_default(),
            bell: watch::Sender::new(0),
        })
    }

    /// Whether it is what the version asks for.
    pub fn suits(&self, version: &Version) -> bool {
        self.health == version.health && self.outliers == version.outliers
    }

    /// Changes with every ring.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    pub fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

impl CareCounts {
    pub fn checks(&self) -> impl Iterator<Item = (Finding, u64)> {
        Finding::ALL
            .into_iter()
            .map(|finding| (finding, self.checks[finding as usize].load(Ordering::Relaxed)))
    }

    pub fn ejections(&self) -> impl Iterator<Item = (Cause, Ruling, u64)> {
        Cause::ALL.into_iter().flat_map(move |cause| {
            Ruling::COUNTED.into_iter().map(move |ruling| {
                let count = self.ejections[cause as usize][ruling as usize].load(Ordering::Relaxed);
                (cause, ruling, count)
            })
        })
    }

    fn found(&self, cause: Cause, ruling: Ruling) {
        if let Some(count) = self.ejections[cause as usize].get(ruling as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Host {
    /// One attempt at this endpoint has ended. Shares nothing with other workers
    /// as long as the endpoint does well.
    pub fn learn(&self, worker: usize, lesson: Lesson) {
        self.vitals.count(worker, lesson);
        if let Some(outliers) = &self.care.outliers
            && self.vitals.note(outliers, lesson)
        {
            self.care.ring();
        }
    }

    /// Its answer to a user said that it wants no more of them. Heeded where its
    /// health is asked after, for nobody else would notice that it is well again.
    pub fn resign(&self) {
        if self.care.health.is_some() {
            self.vitals.resign();
            self.care.ring();
        }
    }
}

impl Host {
    fn read(&self) -> EndpointReading {
        let vitals = &self.vitals;
        let flags =
            Flag::WORDS.into_iter().filter(|(flag, _)| vitals.has(*flag)).map(|(_, word)| word.to_owned());
        let Ends { good, bad, unreached, late } = vitals.ends();
        let record = vitals.record();
        EndpointReading {
            address: self.location.to_string(),
            hostname: self.hostname.as_ref().map(ToString::to_string),
            weight: self.weight,
            priority: self.priority,
            healthy: vitals.is_healthy(),
            flags: flags.collect(),
            success: good,
            error: bad,
            unreached,
            late,
            ejections: record.ejections,
            success_rate: record.success_rate,
            last_check: vitals.last_check(),
        }
    }
}

impl Hosts {
    /// Takes in how a check of an endpoint has ended.
    pub fn checked(
        &self,
        host: &Arc<Host>,
        course: &mut Course,
        found: (Finding, &str),
        now_us: u64,
    ) -> Step {
        let (finding, why) = found;
        let Some(check) = &self.care.health else { return Step::None };
        self.care.counts.checks[finding as usize].fetch_add(1, Ordering::Relaxed);
        let step = course.take(check, finding);
        host.vitals.set_last_check(format!("{}: {why}", finding.as_str()));
        let returned = finding == Finding::Well && !course.failed && self.pardon(host, now_us);
        if step == Step::Recovered || returned {
            host.vitals.freshen(now_us);
        }
        self.mark([
            (host.clone(), Flag::FAILED_CHECK, course.failed),
            (host.clone(), Flag::SILENT, course.silent),
            (host.clone(), Flag::UNCHECKED, false),
            (host.clone(), Flag::EJECTED, host.vitals.has(Flag::EJECTED) && !returned),
        ]);
        let (service, version, endpoint) = (&self.service, &self.version, &host.location);
        match step {
            Step::Failed => {
                tracing::warn!(service, version, %endpoint, why, "endpoint fails its health check")
            }
            Step::Recovered => {
                tracing::info!(service, version, %endpoint, "endpoint passes its health check")
            }
            Step::None | Step::Pending => {}
        }
        if returned {
            tracing::info!(service, version, %endpoint, "ejection ends by a passed health check");
        }
        self.note();
        step
    }

    /// Ends an ejection because a check has passed.
    fn pardon(&self, host: &Arc<Host>, now_us: u64) -> bool {
        let Some(outliers) = &self.care.outliers else { return false };
        if !outliers.uneject_on_health_check || !host.vitals.has(Flag::EJECTED) {
            return false;
        }
        host.vitals.clear_rows();
        host.vitals.record().forgive(now_us)
    }

    /// Rules on the rows that workers have found full.
    pub fn hear(&self, now_us: u64, random: &mut dyn FnMut() -> u64) {
        self.judge(now_us, random, |bench, hosts| {
            let mut events = Vec::new();
            for (endpoint, host) in hosts.iter().enumerate() {
                let found = host.vitals.take_found();
                for cause in Cause::ALL.into_iter().filter(|cause| found & cause.bit() != 0) {
                    let ruling = bench.find(endpoint, cause);
                    host.vitals.clear_row(cause);
                    events.push(Event::Found { endpoint, cause, ruling });
                }
            }
            events
        });
    }

    /// Looks through all endpoints, as is done once in an interval.
    pub fn review(&self, now_us: u64, random: &mut dyn FnMut() -> u64) {
        self.judge(now_us, random, |bench, hosts| {
            let split = bench.outlier.split_local_origin;
            let counted: Vec<_> = hosts.iter().map(|host| host.vitals.counted(split)).collect();
            bench.look(&counted)
        });
    }

    fn judge(
        &self,
        now_us: u64,
        random: &mut dyn FnMut() -> u64,
        act: impl FnOnce(&mut Bench<'_>, &[Arc<Host>]) -> Vec<Event>,
    ) {
        let Some(outlier) = &self.care.outliers else { return };
        let lineup = self.lineup();
        let events = {
            let mut records: Vec<_> = lineup.hosts.iter().map(|host| host.vitals.record()).collect();
            let records = records.iter_mut().map(|record| &mut **record).collect();
            act(&mut Bench { outlier, records, now_us, random }, &lineup.hosts)
        };
        let mut marks = Vec::new();
        for event in events {
            match event {
                Event::Found { endpoint, cause, ruling } => {
                    let host = &lineup.hosts[endpoint];
                    self.care.counts.found(cause, ruling);
                    self.tell(host, cause, ruling);
                    if ruling == Ruling::Ejected {
                        marks.push((host.clone(), Flag::EJECTED, true));
                    }
                }
                Event::Returned { endpoint } => {
                    let host = &lineup.hosts[endpoint];
                    host.vitals.clear_rows();
                    host.vitals.freshen(now_us);
                    let (service, version, endpoint) = (&self.service, &self.version, &host.location);
                    tracing::info!(service, version, %endpoint, "ejection has ended");
                    marks.push((host.clone(), Flag::EJECTED, false));
                }
            }
        }
        self.mark(marks);
        self.note();
    }

    fn tell(&self, host: &Host, cause: Cause, ruling: Ruling) {
        let (service, version, endpoint, cause) =
            (&self.service, &self.version, &host.location, cause.as_str());
        match ruling {
            Ruling::Ejected => tracing::warn!(service, version, %endpoint, cause, "endpoint is ejected"),
            Ruling::Noticed => {
                tracing::debug!(service, version, %endpoint, cause, "outlier found, not enforced");
            }
            Ruling::Spared => {
                tracing::info!(service, version, %endpoint, cause, "outlier is spared, too many are ejected");
            }
            Ruling::Known => {}
        }
    }

    /// Whether any request has gone to any of its endpoints.
    pub fn has_traffic(&self) -> bool {
        self.lineup().hosts.iter().any(|host| host.vitals.has_traffic())
    }

    pub(super) fn read_health(&self) -> HealthReading {
        let lineup = self.lineup();
        let counts = &self.care.counts;
        let checks = counts.checks().map(|(finding, count)| (finding.as_str().to_owned(), count));
        let ejections = counts
            .ejections()
            .map(|(cause, ruling, n)| (cause.as_str().to_owned(), ruling.as_str().to_owned(), n));
        HealthReading {
            service: self.service.clone(),
            version: self.version.clone(),
            panics: lineup.tiers.iter().any(|tier| tier.panics),
            down: lineup.is_down,
            checks: checks.filter(|_| self.care.health.is_some()).collect(),
            ejections: ejections.filter(|_| self.care.outliers.is_some()).collect(),
            endpoints: lineup.hosts.iter().map(|host| host.read()).collect(),
        }
    }
}
