//! Asks what the names of endpoints stand for, again and again.
//!
//! A failure (no answer, or one that a server gives when it does not know)
//! leaves the last good addresses in force and is retried with growing pauses. An
//! answer that there is no such address is an answer: the endpoints are gone, as
//! in Envoy. `/etc/hosts` and `/etc/resolv.conf` are read for each question, so
//! an edit of them is honoured like any other change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::Hosts as HostsFile;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::DnsError;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name as DnsName;
use hickory_resolver::proto::rr::RecordType;

use crate::hosts::Hosts;
use crate::hosts::Name;
use crate::model::Dns;
use crate::model::DnsFamily;
use crate::model::DnsMode;

/// Of one name no more addresses than these are endpoints.
const MAX_ADDRESSES: usize = 1024;
/// The first pause after a failure, if the refresh rate is not shorter still.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that has not answered by then is asked again, or the next one.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// No answer holds for longer: a record that says a week may still be corrected.
const LONGEST_TTL: Duration = Duration::from_secs(3600);

/// Keeps one name of a version resolved, for ever.
pub async fn keep(hosts: Arc<Hosts>, name: Name, dns: Dns) {
    let mut failures = 0;
    loop {
        let pause = match ask(&name.host, &dns).await {
            Ok(Answer { addresses, ttl }) => {
                failures = 0;
                accept(&hosts, &name, &dns, addresses);
                ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(dns.refresh).min(LONGEST_TTL)
            }
            Err(error) => {
                failures += 1;
                if hosts.unresolved(&name, &error) {
                    let (service, version) = (&hosts.service, &hosts.version);
                    tracing::warn!(service, version, name = name.host, error, "name is not resolved");
                }
                after_failures(failures, dns.refresh)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn accept(hosts: &Hosts, name: &Name, dns: &Dns, addresses: Vec<IpAddr>) {
    let mut addresses: Vec<SocketAddr> =
        addresses.into_iter().map(|ip| SocketAddr::new(ip, name.port)).collect();
    if dns.mode == DnsMode::Logical {
        let held = hosts.resolved(name).into_iter().find(|held| addresses.contains(held));
        addresses = held.or(addresses.first().copied()).into_iter().collect();
    } else {
        // Servers turn their lists round; the same addresses are no news.
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
    }
    let count = addresses.len();
    if hosts.resolve(name, addresses) {
        let (service, version) = (&hosts.service, &hosts.version);
        tracing::info!(service, version, name = name.host, addresses = count, "name is resolved anew");
    }
}

/// Between half and the whole of a pause that doubles with every failure.
fn after_failures(failures: u32, refresh: Duration) -> Duration {
    let first = refresh.min(FIRST_PAUSE);
    let pause = first.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

struct Answer {
    addresses: Vec<IpAddr>,
    /// How long it holds; `None` where nobody says.
    ttl: Option<Duration>,
}

impl Answer {
    const NOBODY: Answer = Answer { addresses: Vec::new(), ttl: None };

    fn and(mut self, other: Answer) -> Answer {
        self.addresses.extend(other.addresses);
        let ttl = [self.ttl, other.ttl].into_iter().flatten().min();
        Answer { addresses: self.addresses, ttl }
    }
}

async fn ask(host: &str, dns: &Dns) -> Result<Answer, String> {
    let asker = Asker::new(host, dns)?;
    let (first, second) = match dns.family {
        DnsFamily::V4 => return asker.ask(RecordType::A).await,
        DnsFamily::V6 => return asker.ask(RecordType::AAAA).await,
        DnsFamily::All => {
            let (v4, v6) = tokio::join!(asker.ask(RecordType::A), asker.ask(RecordType::AAAA));
            return match (v4, v6) {
                (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
                (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => Ok(one),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        DnsFamily::PreferV4 => (RecordType::A, RecordType::AAAA),
        DnsFamily::PreferV6 => (RecordType::AAAA, RecordType::A),
    };
    // Only who has no address of the first family is asked for the second: a
    // failure says nothing of the sort.
    let answer = asker.ask(first).await?;
    if answer.addresses.is_empty() { asker.ask(second).await } else { Ok(answer) }
}

/// Everything that one question needs, read afresh.
struct Asker {
    name: DnsName,
    file: HostsFile,
    resolver: TokioResolver,
}

impl Asker {
    fn new(host: &str, dns: &Dns) -> Result<Asker, String> {
        let name = DnsName::from_utf8(host).map_err(|error| error.to_string())?;
        // No such file means no such entries.
        let file = HostsFile::from_system().unwrap_or_default();
        let mut builder = if dns.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| format!("/etc/resolv.conf: {error}"))?
        } else {
            let servers = dns.servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = options.timeout.min(LONGEST_WAIT);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Asker { name, file, resolver })
    }

    async fn ask(&self, kind: RecordType) -> Result<Answer, String> {
        if let Some(found) = self.file.lookup_static_host(&Query::query(self.name.clone(), kind)) {
            let addresses = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
            return Ok(Answer { addresses, ttl: None });
        }
        match self.resolver.lookup(self.name.clone(), kind).await {
            Ok(found) => {
                let addresses = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                let ttl = found.answers().iter().map(|record| record.ttl).min();
                Ok(Answer { addresses, ttl: ttl.map(|ttl| Duration::from_secs(ttl.into())) })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(no))) if is_definite(no.response_code) => {
                Ok(Answer::NOBODY)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether a server that answers so knows that there is nothing.
fn is_definite(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_and_have_an_end() {
        let refresh = Duration::from_secs(5);
        for (failures, longest_s) in [(1, 1), (2, 2), (4, 8), (6, 30), (60, 30)] {
            let longest = Duration::from_secs(longest_s);
            for _ in 0..100 {
                let pause = after_failures(failures, refresh);
                assert!(pause <= longest && pause >= longest / 2, "{failures}: {pause:?}");
            }
        }
        assert!(after_failures(1, Duration::from_millis(20)) <= Duration::from_millis(20));
    }
}
