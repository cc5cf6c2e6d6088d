//! nginx's file. Bodies are passed on as they come: spooling them to disk would be another job.

use std::fmt::Write;

use crate::setting::Back;
use crate::setting::By;
use crate::setting::Front;
use crate::setting::Places;
use crate::setting::Setting;
use crate::setting::Split;
use crate::setting::route;

pub fn config(setting: &Setting, places: &Places) -> Option<String> {
    let folder = places.folder.display();
    // SAFETY: asks for a number.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    let bodies = if setting.bodies {
        "    client_max_body_size 16m;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    proxy_busy_buffers_size 256k;
"
    } else {
        ""
    };
    Some(format!(
        "{user}daemon off;
worker_processes {};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {};
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
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Request-Id $request_id;
{bodies}{}}}
",
        setting.workers,
        setting.room,
        routing(setting, places)?
    ))
}

fn routing(setting: &Setting, places: &Places) -> Option<String> {
    let listen = match setting.front {
        Front::Http1 => format!("        listen {} backlog=4096;\n", places.listen),
        Front::Http2 => format!("        listen {} http2 backlog=4096;\n", places.listen),
        Front::Tls => format!(
            "        listen {} ssl backlog=4096;
        ssl_protocols TLSv1.3;
        ssl_certificate {};
        ssl_certificate_key {};
",
            places.listen,
            places.certificate().display(),
            places.key().display()
        ),
    };
    let pass = match setting.back {
        Back::Http1 => "proxy_pass http://$version;",
        Back::Http2 => {
            "grpc_pass grpc://$version;
            grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            grpc_set_header X-Forwarded-Proto $scheme;
            grpc_set_header X-Request-Id $request_id;"
        }
    };
    let both = upstream("primary", places.primary, 256) + &upstream("canary", places.canary, 256);
    let server = |location: &str| format!("    server {{\n{listen}{location}    }}\n");
    let all = format!("        location / {{\n            {pass}\n        }}\n");
    Some(match setting.split {
        Split::Coin => format!("{}{both}{}", coin("$request_id", "$version", setting.canary), server(&all)),
        Split::Sticky => format!(
            "{}    map $http_x_canary $version {{
        always canary;
        default $user;
    }}
{both}{}",
            coin("$cookie_sid", "$user", setting.canary),
            server(&all)
        ),
        Split::Mirror => {
            let mirror = "        location / {
            mirror /mirror;
            proxy_pass http://primary;
        }
        location = /mirror {
            internal;
            proxy_pass http://canary$request_uri;
        }
";
            format!("{both}{}", server(mirror))
        }
        Split::Routes(count, by) => routes(count, by, places, &listen),
        Split::Services(_) => return None,
    })
}

fn coin(key: &str, version: &str, canary: u32) -> String {
    // A share of nothing is not a share for nginx.
    let shares = match canary {
        0 => "* primary;".to_owned(),
        100 => "* canary;".to_owned(),
        _ => format!("{}% primary;\n        * canary;", 100 - canary),
    };
    format!("    split_clients {key} {version} {{\n        {shares}\n    }}\n")
}

fn routes(count: usize, by: By, places: &Places, listen: &str) -> String {
    let mut text = format!(
        "    server_names_hash_max_size {};\n    server_names_hash_bucket_size 128;\n",
        (count * 4).max(512)
    );
    for name in (0..count).map(route) {
        text.push_str(&upstream(&name, places.primary, 16));
    }
    if by == By::Path {
        let _ = write!(text, "    server {{\n{listen}");
        for name in (0..count).map(route) {
            let _ = writeln!(text, "        location /{name}/ {{ proxy_pass http://{name}; }}");
        }
        text.push_str("    }\n");
        return text;
    }
    for (index, name) in (0..count).map(route).enumerate() {
        let listen =
            if index == 0 { listen.to_owned() } else { format!("        listen {};\n", places.listen) };
        let _ = writeln!(
            text,
            "    server {{\n{listen}        server_name {name}.example.com;
        location / {{ proxy_pass http://{name}; }}\n    }}"
        );
    }
    text
}

fn upstream(name: &str, endpoint: std::net::SocketAddr, keep: usize) -> String {
    format!(
        "    upstream {name} {{
        server {endpoint};
        keepalive {keep};
        keepalive_timeout 1h;
        keepalive_requests 100000000;
    }}
"
    )
}
