//! Envoy's bootstrap, static. Its circuit breakers are raised: their defaults would refuse the load.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

pub fn config(setting: &Setting, places: &Places) -> Option<String> {
    let codec = match setting.front {
        Front::Http1 => "HTTP1",
        Front::Http2 => "HTTP2",
        Front::Tls => "AUTO",
    };
    let admin = address(places.admin);
    let runtime = if setting.movable {
        "layered_runtime:\n  layers:\n  - {name: admin, admin_layer: {}}\n"
    } else {
        ""
    };
    Some(format!(
        "admin:
  address: {admin}
{runtime}static_resources:
  listeners:
  - name: front
    address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: {codec}
          use_remote_address: true
          route_config:
            name: routes
            virtual_hosts:
{}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
{}  clusters:
{}",
        address(places.listen),
        hosts(setting)?,
        tls(setting, places),
        clusters(setting, places),
    ))
}

fn address(address: std::net::SocketAddr) -> String {
    format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
}

fn tls(setting: &Setting, places: &Places) -> String {
    if setting.front != Front::Tls {
        return String::new();
    }
    format!(
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - {{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}
",
        places.certificate().display(),
        places.key().display()
    )
}

fn hosts(setting: &Setting) -> Option<String> {
    let start = "            - name: all\n              domains: [\"*\"]\n              routes:\n";
    let weighted = |more: &str| {
        format!(
            "                  weighted_clusters:
{more}                    clusters:
                    - {{name: primary, weight: {}}}
                    - {{name: canary, weight: {}}}
",
            100 - setting.canary,
            setting.canary
        )
    };
    let plain = "              - match: {prefix: /}\n                route:\n";
    Some(match setting.split {
        Split::Coin if setting.movable => {
            format!("{start}{plain}{}", weighted("                    runtime_key_prefix: split\n"))
        }
        Split::Coin => format!("{start}{plain}{}", weighted("")),
        Split::Sticky => format!(
            "{start}              - match: {{prefix: /, headers: [{{name: x-canary, string_match: {{exact: always}}}}]}}
                route: {{cluster: canary}}
{plain}                  hash_policy: [{{cookie: {{name: sid}}}}]
{}",
            weighted("                    use_hash_policy: true\n")
        ),
        Split::Mirror => format!(
            "{start}{plain}                  cluster: primary
                  request_mirror_policies: [{{cluster: canary}}]
"
        ),
        Split::Routes(count, By::Path) => {
            let mut text = start.to_owned();
            for name in (0..count).map(route) {
                let _ = writeln!(
                    text,
                    "              - {{match: {{prefix: /{name}/}}, route: {{cluster: {name}}}}}"
                );
            }
            text
        }
        Split::Routes(count, By::Host) => {
            let mut text = String::new();
            for name in (0..count).map(route) {
                let domains = format!("domains: [{name}.example.com]");
                let routes = format!("routes: [{{match: {{prefix: /}}, route: {{cluster: {name}}}}}]");
                let _ = writeln!(text, "            - {{name: {name}, {domains}, {routes}}}");
            }
            text
        }
        Split::Services(_) => return None,
    })
}

fn clusters(setting: &Setting, places: &Places) -> String {
    match setting.split {
        Split::Routes(count, _) => {
            (0..count).map(|index| cluster(setting, &route(index), places.primary)).collect()
        }
        _ => cluster(setting, "primary", places.primary) + &cluster(setting, "canary", places.canary),
    }
}

fn cluster(setting: &Setting, name: &str, endpoint: std::net::SocketAddr) -> String {
    let protocol = match setting.back {
        Back::Http1 => "",
        Back::Http2 => {
            "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"
        }
    };
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
{protocol}    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 100}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {}}}
",
        address(endpoint)
    )
}
