//! Caddy's file. It has no mirror, and its stickiness knows no weights.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

pub fn config(setting: &Setting, places: &Places) -> Option<String> {
    let port = places.listen.port();
    let site = match setting.front {
        Front::Http1 | Front::Http2 => format!("http://:{port}"),
        Front::Tls => format!("https://:{port}"),
    };
    let tls = match setting.front {
        Front::Http1 | Front::Http2 => String::new(),
        Front::Tls => format!("    tls {} {}\n", places.certificate().display(), places.key().display()),
    };
    let routing = match setting.split {
        Split::Coin if setting.canary == 0 => proxy(setting, "    ", &[places.primary]),
        Split::Coin if setting.canary == 100 => proxy(setting, "    ", &[places.canary]),
        Split::Coin => proxy(setting, "    ", &[places.primary, places.canary]),
        Split::Sticky | Split::Mirror | Split::Services(_) => return None,
        Split::Routes(count, by) => routes(setting, places, count, by),
    };
    Some(format!(
        "{{
    admin {}
    auto_https off
    persist_config off
    log default {{
        level ERROR
    }}
    servers {{
        protocols h1 h2 h2c
    }}
}}
{site} {{
    bind {}
{tls}{routing}}}
",
        if setting.movable { places.admin.to_string() } else { "off".to_owned() },
        places.listen.ip()
    ))
}

fn routes(setting: &Setting, places: &Places, count: usize, by: By) -> String {
    let mut text = String::new();
    for name in (0..count).map(route) {
        let matcher = match by {
            By::Path => format!("path /{name}/*"),
            By::Host => format!("host {name}.example.com"),
        };
        let _ = writeln!(text, "    @{name} {matcher}\n    handle @{name} {{");
        text.push_str(&proxy(setting, "        ", &[places.primary]));
        text.push_str("    }\n");
    }
    text
}

fn proxy(setting: &Setting, indent: &str, to: &[std::net::SocketAddr]) -> String {
    let scheme = match setting.back {
        Back::Http1 => "",
        Back::Http2 => "h2c://",
    };
    let to: String = to.iter().map(|address| format!(" {scheme}{address}")).collect();
    let policy = if to.trim().contains(' ') {
        format!("{indent}    lb_policy weighted_round_robin 90 10\n")
    } else {
        String::new()
    };
    let kept = match setting.back {
        Back::Http1 => format!(
            "{indent}    transport http {{
{indent}        keepalive_idle_conns_per_host 256
{indent}    }}
"
        ),
        Back::Http2 => String::new(),
    };
    format!(
        "{indent}reverse_proxy{to} {{
{policy}{indent}    header_up X-Request-Id {{http.request.uuid}}
{kept}{indent}}}
"
    )
}
