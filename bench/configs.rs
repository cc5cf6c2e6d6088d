//! What each peer is told: split 90/10 by chance over two upstreams, keep connections to both
//! sides, name the client and the request to the upstream, write no access log.
//! Each is set as its own manual advises for speed; a peer hobbled by its file proves nothing.

use std::net::SocketAddr;
use std::path::Path;

pub struct Places<'a> {
    pub listen: SocketAddr,
    pub primary: SocketAddr,
    pub canary: SocketAddr,
    pub folder: &'a Path,
}

pub fn nginx(places: &Places) -> String {
    let Places { listen, primary, canary, folder } = places;
    let folder = folder.display();
    // SAFETY: asks for a number.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    server_tokens off;
    keepalive_timeout 1h;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    split_clients $request_id $version {{
        90% primary;
        * canary;
    }}
    upstream primary {{
        server {primary};
        keepalive 256;
        keepalive_timeout 1h;
        keepalive_requests 100000000;
    }}
    upstream canary {{
        server {canary};
        keepalive 256;
        keepalive_timeout 1h;
        keepalive_requests 100000000;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://$version;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
}}
"
    )
}

pub fn haproxy(places: &Places) -> String {
    let Places { listen, primary, canary, .. } = places;
    format!(
        "global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    option http-keep-alive
    http-reuse always
frontend front
    bind {listen}
    option forwardfor
    http-request set-header x-forwarded-proto http
    unique-id-format %[uuid()]
    unique-id-header x-request-id
    default_backend web
backend web
    balance roundrobin
    server primary {primary} weight 90
    server canary {canary} weight 10
"
    )
}

pub fn envoy(places: &Places) -> String {
    let Places { listen, primary, canary, .. } = places;
    format!(
        "static_resources:
  listeners:
  - name: front
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP1
          use_remote_address: true
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{prefix: /}}
                route:
                  weighted_clusters:
                    clusters:
                    - {{name: primary, weight: 90}}
                    - {{name: canary, weight: 10}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
{}{}",
        listen.ip(),
        listen.port(),
        envoy_cluster("primary", *primary),
        envoy_cluster("canary", *canary),
    )
}

fn envoy_cluster(name: &str, address: SocketAddr) -> String {
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 100}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
",
        address.ip(),
        address.port(),
    )
}

/// Statistics and judge on: a rollout stands in its 10 % step for an hour.
pub fn serin(places: &Places, admin: SocketAddr) -> String {
    format!(
        "{}rollouts:
  web:
    steps: [{{weight: 10, for: 1h}}]
",
        serin_plain(places, admin)
    )
}

/// The same split with no rollout over it: what the judge and shielding cost is the difference.
pub fn serin_plain(places: &Places, admin: SocketAddr) -> String {
    let Places { listen, primary, canary, folder } = places;
    format!(
        "listen: {listen}
admin: {admin}
workers: 1
state: {}/state-{}
services:
  web:
    primary: {primary}
    canary: {canary}
    weights: {{primary: 90, canary: 10}}
",
        folder.display(),
        listen.port()
    )
}
