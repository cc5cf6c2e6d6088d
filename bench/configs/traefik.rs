//! Traefik's two files, the static and the dynamic. It adds no request id, keeps users by a cookie of its
//! own only, and its metrics are off, as by default: they cost it a fifth.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

pub fn fixed(setting: &Setting, places: &Places) -> String {
    format!(
        "global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
entryPoints:
  front: {{address: \"{}\"}}
providers:
  file: {{filename: {}/traefik-routes.yaml, watch: {}}}
",
        places.listen,
        places.folder.display(),
        setting.movable
    )
}

pub fn config(setting: &Setting, places: &Places) -> Option<String> {
    let mut text = "http:\n  serversTransports:\n    kept: {maxIdleConnsPerHost: 256}\n".to_owned();
    let tls = if setting.front == Front::Tls { ", tls: {}" } else { "" };
    let all = format!("  routers:\n    all: {{rule: \"PathPrefix(`/`)\", service: web{tls}}}\n  services:\n");
    match setting.split {
        Split::Coin => {
            text.push_str(&all);
            let (primary, canary) = (100 - setting.canary, setting.canary);
            let shares =
                format!("[{{name: primary, weight: {primary}}}, {{name: canary, weight: {canary}}}]");
            let _ = writeln!(text, "    web: {{weighted: {{services: {shares}}}}}");
        }
        Split::Mirror => {
            text.push_str(&all);
            text.push_str(
                "    web: {mirroring: {service: primary, mirrors: [{name: canary, percent: 100}]}}\n",
            );
        }
        Split::Routes(count, by) => {
            text.push_str("  routers:\n");
            for name in (0..count).map(route) {
                let rule = match by {
                    By::Path => format!("PathPrefix(`/{name}/`)"),
                    By::Host => format!("Host(`{name}.example.com`)"),
                };
                let _ = writeln!(text, "    {name}: {{rule: \"{rule}\", service: {name}}}");
            }
            text.push_str("  services:\n");
            for name in (0..count).map(route) {
                text.push_str(&service(setting, &name, places.primary));
            }
            return Some(text);
        }
        Split::Sticky | Split::Services(_) => return None,
    }
    text.push_str(&service(setting, "primary", places.primary));
    text.push_str(&service(setting, "canary", places.canary));
    if setting.front == Front::Tls {
        let _ = writeln!(
            text,
            "tls:\n  certificates: [{{certFile: {}, keyFile: {}}}]",
            places.certificate().display(),
            places.key().display()
        );
    }
    Some(text)
}

fn service(setting: &Setting, name: &str, endpoint: std::net::SocketAddr) -> String {
    let scheme = match setting.back {
        Back::Http1 => "http",
        Back::Http2 => "h2c",
    };
    let servers = format!("servers: [{{url: \"{scheme}://{endpoint}\"}}]");
    format!("    {name}: {{loadBalancer: {{serversTransport: kept, {servers}}}}}\n")
}
