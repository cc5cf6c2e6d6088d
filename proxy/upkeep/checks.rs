//! Asks every endpoint of one version after its health, each at its own pace.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Chore;
use crate::carriage::Carriage;
use crate::clock;
use crate::fault::Fault;
use crate::hosts;
use crate::hosts::Course;
use crate::hosts::Finding;
use crate::hosts::Flag;
use crate::hosts::Host;
use crate::hosts::Hosts;
use crate::location::Location;
use crate::model::HealthCheck;
use crate::model::Probe;
use crate::model::Protocol;
use crate::table::Table;
use crate::upstream::Asked;
use crate::upstream::Checked;
use crate::upstream::Prober;
use crate::upstream::dial;
use crate::wire::Wire;

/// An endpoint that asked to be left alone.
const RESIGNED: &str = "an answer said x-envoy-immediate-health-check-fail";

/// How an endpoint is reached, so that a check goes the way that requests go.
#[derive(Clone)]
struct Way {
    carriage: Carriage,
    /// Whom TLS is asked for where requests would name it.
    host: Option<String>,
    port: Option<u16>,
    timeout: Duration,
}

pub fn chores(table: &Table) -> Vec<Chore> {
    let mut chores: Vec<Chore> = Vec::new();
    for plan in table.splits.iter().flat_map(|split| &split.versions) {
        if let Some(check) = &plan.hosts.care.health
            && !chores.iter().any(|chore| Arc::ptr_eq(&chore.hosts, &plan.hosts))
        {
            let carriage = Carriage { proxy_header: None, ..plan.carriage.clone() };
            let host = match &check.probe {
                Probe::Http(probe) => probe.host.clone(),
                Probe::Grpc(probe) => probe.authority.clone(),
                Probe::Tcp(_) => None,
            };
            let terms = format!("checks {check:?} {:?} {:?}", carriage.mark(), plan.connect_timeout);
            let way = Way { carriage, host, port: check.port, timeout: plan.connect_timeout };
            let run = Box::pin(watch(plan.hosts.clone(), check.clone(), way));
            chores.push(Chore { terms, hosts: plan.hosts.clone(), run });
        }
    }
    chores
}

impl Way {
    async fn dial(&self, host: &Host) -> Result<Wire, Fault> {
        let location = match (&host.location, self.port) {
            (Location::Tcp(address), Some(port)) => Location::Tcp((address.ip(), port).into()),
            (location, _) => location.clone(),
        };
        let host = self.host.as_deref().or(host.hostname.as_deref());
        dial(&self.carriage, &location, host, None, self.timeout).await
    }
}

/// Has one task for each endpoint that is listed.
async fn watch(hosts: Arc<Hosts>, check: HealthCheck, way: Way) {
    let mut bell = hosts.care.listen();
    let mut tasks = JoinSet::new();
    let mut running: Vec<(Arc<Host>, tokio::task::AbortHandle)> = Vec::new();
    loop {
        let lineup = hosts.lineup();
        let is_same = |one: &Arc<Host>, other: &Arc<Host>| Arc::ptr_eq(&one.vitals, &other.vitals);
        running.retain(|(host, task)| {
            let listed = lineup.hosts.iter().any(|other| is_same(host, other));
            if !listed {
                task.abort();
            }
            listed
        });
        for host in &lineup.hosts {
            if !running.iter().any(|(other, _)| is_same(host, other)) {
                let task = attend(hosts.clone(), host.clone(), check.clone(), way.clone());
                running.push((host.clone(), tasks.spawn_local(task)));
            }
        }
        while tasks.try_join_next().is_some() {}
        if bell.changed().await.is_err() {
            return;
        }
    }
}

/// Asks one endpoint as long as it is listed.
async fn attend(hosts: Arc<Hosts>, host: Arc<Host>, check: HealthCheck, way: Way) {
    let vitals = &host.vitals;
    let (first, failed) = (vitals.has(Flag::UNCHECKED), vitals.has(Flag::FAILED_CHECK));
    let mut course = Course::resume(first, failed, vitals.has(Flag::SILENT));
    let mut prober = Prober::default();
    let mut bell = hosts.care.listen();
    let mut pause = hosts::first_wait(&check, random());
    loop {
        let checked = if wait(&host, &mut bell, pause).await {
            Checked { finding: Finding::Unwell, why: RESIGNED.to_owned() }
        } else {
            let authority = host.hostname.as_deref().unwrap_or(&hosts.version);
            let http2 = way.carriage.protocol == Protocol::Http2;
            let asked = Asked { authority, http2, secure: way.carriage.tls.is_some() };
            prober.check(&check, &asked, || way.dial(&host)).await
        };
        let Checked { finding, why } = checked;
        let step = hosts.checked(&host, &mut course, (finding, &why), clock::now_us());
        pause = hosts::wait(&check, finding, step, hosts.has_traffic(), random());
    }
}

/// Whether the endpoint resigned before the pause was over.
async fn wait(host: &Host, bell: &mut watch::Receiver<u64>, pause: Duration) -> bool {
    let mut over = std::pin::pin!(tokio::time::sleep(pause));
    loop {
        if host.vitals.take_resignation() {
            return true;
        }
        tokio::select! {
            () = &mut over => return false,
            // The bell lives as long as the host does.
            _ = bell.changed() => {}
        }
    }
}

fn random() -> u64 {
    rand::rng().next_u64()
}
