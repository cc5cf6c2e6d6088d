//! HAProxy's file. It has no mirror of its own, and routes are looked up in a map as its manual advises.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

/// The file, and the map beside it where there are routes.
pub fn config(setting: &Setting, places: &Places) -> Option<(String, Option<String>)> {
    let bind = match setting.front {
        Front::Http1 => String::new(),
        Front::Http2 => " proto h2".to_owned(),
        Front::Tls => {
            format!(" ssl crt {} alpn http/1.1 ssl-min-ver TLSv1.3", places.both().display())
        }
    };
    let splice = if setting.bodies { "    option splice-auto\n" } else { "" };
    let (choice, backends, map) = routing(setting, places)?;
    let text = format!(
        "global
    nbthread {}
    maxconn {}
    stats socket {}/haproxy.sock level admin
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    option http-keep-alive
{splice}    http-reuse always
frontend metrics
    bind {}
    http-request use-service prometheus-exporter
frontend front
    bind {} backlog 4096{bind}
    option forwardfor
    http-request set-header x-forwarded-proto {}
    unique-id-format %[uuid()]
    unique-id-header x-request-id
{choice}{backends}",
        setting.workers,
        setting.room,
        places.folder.display(),
        places.admin,
        places.listen,
        if setting.front == Front::Tls { "https" } else { "http" },
    );
    Some((text, map))
}

fn routing(setting: &Setting, places: &Places) -> Option<(String, String, Option<String>)> {
    let Places { primary, canary, .. } = places;
    let proto = match setting.back {
        Back::Http1 => "",
        Back::Http2 => " proto h2",
    };
    let web = |balance: &str| {
        format!(
            "backend web
    balance {balance}
    server primary {primary}{proto} weight {}
    server canary {canary}{proto} weight {}
",
            100 - setting.canary,
            setting.canary
        )
    };
    Some(match setting.split {
        Split::Coin => ("    default_backend web\n".to_owned(), web("roundrobin"), None),
        Split::Sticky => (
            "    use_backend canary if { req.hdr(x-canary) -m str always }
    default_backend web
"
            .to_owned(),
            web("hash req.cook(sid)\n    hash-type consistent")
                + &format!("backend canary\n    server canary {canary}\n"),
            None,
        ),
        Split::Mirror | Split::Services(_) => return None,
        Split::Routes(count, by) => {
            let file = places.folder.join("haproxy.map");
            let (choice, key) = match by {
                By::Path => (format!("path,map_beg({})", file.display()), ("/", "/")),
                By::Host => (format!("req.hdr(host),map({})", file.display()), ("", ".example.com")),
            };
            let (mut backends, mut map) = (String::new(), String::new());
            for name in (0..count).map(route) {
                let _ = writeln!(backends, "backend {name}\n    server primary {primary}");
                let _ = writeln!(map, "{}{name}{} {name}", key.0, key.1);
            }
            (format!("    use_backend %[{choice}]\n"), backends, Some(map))
        }
    })
}
