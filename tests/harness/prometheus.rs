//! The real Prometheus, scraping one target every fifth of a second.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::client::{Ask, once};
use super::program::{Program, answers, free};

pub struct Prometheus {
    pub address: SocketAddr,
    _program: Program,
}

impl Prometheus {
    pub fn start(program: &Path, target: SocketAddr) -> Prometheus {
        let scraped = format!("- job_name: serin\n    static_configs: [{{targets: [\"{target}\"]}}]\n");
        Prometheus::start_with(program, &scraped, &[], |_| {})
    }

    /// With these scrape configs and arguments; `prepare` may put data where it
    /// is to be found.
    pub fn start_with(
        program: &Path,
        scraped: &str,
        arguments: &[&str],
        prepare: impl Fn(&Path),
    ) -> Prometheus {
        let prepare = |folder: &Path| {
            let config = folder.join("prometheus.yml");
            let global = "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  \
                          external_labels: {replica: a, region: test}\nscrape_configs:\n";
            std::fs::write(&config, format!("{global}  {scraped}")).expect("the folder is ours");
            let data = folder.join("data");
            prepare(&data);
            let (address, mut command) = (free(), Command::new(program));
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address={address}"))
                .args(arguments);
            (command, address)
        };
        let (program, address) =
            Program::start("prometheus", prepare, |address| answers(*address, "/-/ready", 200));
        Prometheus { address, _program: program }
    }

    /// The value of an instant query that gives one number, if it gives any yet.
    pub fn query(&self, expression: &str) -> Option<f64> {
        let answer = self.json(&format!("/api/v1/query?query={}", encoded(expression)));
        answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse().ok())
    }

    /// The scrape's own account of its target: health, and the last error.
    pub fn target(&self) -> (String, String) {
        let target = &self.json("/api/v1/targets")["data"]["activeTargets"][0];
        let text = |name: &str| target[name].as_str().unwrap_or_default().to_owned();
        (text("health"), text("lastError"))
    }

    pub fn json(&self, path: &str) -> Value {
        once(self.address, &Ask::get(path)).json()
    }
}

/// As a part of a path's query.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn prometheus_scrapes_and_answers_queries() {
    use super::{Answer, Origin, eventually, require};
    let Some(program) = require("prometheus") else { return };
    let target = Origin::answering("target", |_| {
        Answer::ok()
            .header("content-type", "text/plain; version=0.0.4")
            .text("# TYPE a gauge\na{b=\"c\"} 7\n")
    });
    let prometheus = Prometheus::start(&program, target.address);
    eventually("the series is there", || prometheus.query("sum(a{b=\"c\"})") == Some(7.0));
    assert_eq!(prometheus.query("nothing"), None);
    assert_eq!(prometheus.target(), ("up".into(), String::new()));
}
