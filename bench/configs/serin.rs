//! serin's file. Where there is a split by chance a rollout stands in its 10 % step for an hour, so
//! statistics, judge and shielding are on as they would be in a release.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

/// Whether a rollout stands over the service `web`.
pub fn rolls_out(setting: &Setting) -> bool {
    matches!(setting.split, Split::Coin | Split::Sticky) && !setting.movable
}

pub fn config(setting: &Setting, places: &Places, rollout: bool) -> String {
    let mut text = head(setting, places);
    match setting.split {
        Split::Coin | Split::Sticky | Split::Mirror => text.push_str(&web(setting, places)),
        Split::Routes(count, by) => routes(&mut text, count, by, places),
        Split::Services(count) => services(&mut text, count, places, rollout),
    }
    if rollout && rolls_out(setting) {
        text.push_str("rollouts:\n  web:\n    steps: [{weight: 10, for: 1h}]\n");
    }
    text
}

fn head(setting: &Setting, places: &Places) -> String {
    let Places { listen, admin, folder, .. } = places;
    let front = match setting.front {
        Front::Http1 | Front::Http2 => format!("listen: {listen}\n"),
        Front::Tls => format!(
            "listeners:
  - name: front
    address: {listen}
    tls:
      certificates: [{{certificate: {}, key: {}}}]
",
            places.certificate().display(),
            places.key().display()
        ),
    };
    let state = folder.display();
    format!("{front}admin: {admin}\nworkers: {}\nstate: {state}/state-{}\n", setting.workers, listen.port())
}

fn web(setting: &Setting, places: &Places) -> String {
    let Places { primary, canary, .. } = places;
    let [primary, canary] = [primary, canary].map(|address| match setting.back {
        Back::Http1 => address.to_string(),
        Back::Http2 => format!("{{endpoints: [\"{address}\"], protocol: http2}}"),
    });
    let mut text = format!("services:\n  web:\n    primary: {primary}\n    canary: {canary}\n");
    text.push_str(match setting.split {
        Split::Mirror => "    mirror: {version: canary, percent: 100}\n",
        Split::Sticky => {
            "    weights: {primary: 90, canary: 10}
    force: [{header: x-canary, exact: always, version: canary}]
    sticky: {cookie: sid}
"
        }
        _ => "",
    });
    if setting.split == Split::Coin {
        let share = setting.canary;
        let _ = writeln!(text, "    weights: {{primary: {}, canary: {share}}}", 100 - share);
    }
    text
}

fn routes(text: &mut String, count: usize, by: By, places: &Places) {
    text.push_str("services:\n");
    for index in 0..count {
        let _ = writeln!(text, "  {}: {{primary: {}}}", route(index), places.primary);
    }
    text.push_str("routes:\n");
    for index in 0..count {
        let name = route(index);
        let _ = match by {
            By::Path => writeln!(text, "  - {{match: {{prefix: /{name}/}}, service: {name}}}"),
            By::Host => writeln!(text, "  - {{hosts: {name}.example.com, service: {name}}}"),
        };
    }
}

fn services(text: &mut String, count: usize, places: &Places, rollout: bool) {
    let Places { primary, canary, .. } = places;
    text.push_str("services:\n");
    for index in 0..count {
        let name = route(index);
        let weights = "weights: {primary: 90, canary: 10}";
        let _ = writeln!(text, "  {name}: {{primary: {primary}, canary: {canary}, {weights}}}");
    }
    text.push_str("routes:\n");
    for index in 0..count {
        let name = route(index);
        let _ = writeln!(text, "  - {{match: {{prefix: /{name}/}}, service: {name}}}");
    }
    if rollout {
        text.push_str("rollouts:\n");
        for index in 0..count {
            let _ = writeln!(text, "  {}: {{steps: [{{weight: 10, for: 1h}}]}}", route(index));
        }
    }
}
