//! The requests of each workload, and what must come back. They are those of a shop's pages: four fields
//! and a cookie out, six fields and 512 bytes back, unless the workload says otherwise.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;
use rustls::RootCertStore;

use crate::duo::Job;
use crate::origin;
use crate::setting::By;
use crate::setting::route;

/// Bytes in the body of an ordinary answer.
pub const BODY_BYTES: usize = 512;
/// Users whose cookies the sticky workload carries.
const USERS: usize = 1_000;
/// Routes that are asked for, evenly over the table.
const ROUTES_ASKED: usize = 64;

pub fn plain() -> Job {
    with(vec![request("/products/42?view=full", "shop.example.com", "3f9c2a71d0b84e55", 0)])
}

pub fn sticky() -> Job {
    let user = |index: usize| {
        let cookie = format!("{:016x}", (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        request("/products/42?view=full", "shop.example.com", &cookie, 0)
    };
    with((0..USERS).map(user).collect())
}

/// Requests for routes of a table of so many; the first and the last are among them.
pub fn routes(count: usize, by: By) -> Job {
    let asked = ROUTES_ASKED.min(count);
    let one = |index: usize| {
        let name = route(if asked == 1 { 0 } else { index * (count - 1) / (asked - 1) });
        match by {
            By::Path => {
                request(&format!("/{name}/products/42?view=full"), "shop.example.com", "3f9c2a71d0b84e55", 0)
            }
            By::Host => {
                request("/products/42?view=full", &format!("{name}.example.com"), "3f9c2a71d0b84e55", 0)
            }
        }
    };
    with((0..asked).map(one).collect())
}

pub fn download(bytes: usize) -> Job {
    let body = origin::body(bytes);
    Job { answer: origin::answer(&body), body, ..plain() }
}

pub fn upload(bytes: usize) -> Job {
    let upload = origin::body(bytes);
    let mut whole = request("/products/42?view=full", "shop.example.com", "3f9c2a71d0b84e55", bytes);
    whole.extend_from_slice(&upload);
    Job { requests: vec![whole], upload, ..plain() }
}

pub fn churn() -> Job {
    Job { churn: true, ..plain() }
}

pub fn tls(config: &Arc<ClientConfig>, churn: bool) -> Job {
    Job { tls: Some(Arc::clone(config)), churn, ..plain() }
}

fn with(requests: Vec<Vec<u8>>) -> Job {
    let body = origin::body(BODY_BYTES);
    Job { requests, upload: Vec::new(), answer: origin::answer(&body), body, churn: false, tls: None }
}

fn request(path: &str, host: &str, sid: &str, bytes: usize) -> Vec<u8> {
    let (method, length) = match bytes {
        0 => ("GET", String::new()),
        _ => ("POST", format!("content-length: {bytes}\r\n")),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: serin-bench/1\r\n\
         accept: application/json\r\naccept-encoding: gzip, br\r\n\
         cookie: sid={sid}; theme=dark\r\n{length}\r\n"
    )
    .into_bytes()
}

/// Writes a P-256 certificate for the peers into the folder, and returns a client that believes it.
/// The client offers one group and one suite, so that all peers do the same arithmetic, and resumes nothing.
pub fn certificate(folder: &Path) -> Result<Arc<ClientConfig>> {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example.com".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(folder.join("certificate.pem"), &certificate)?;
    std::fs::write(folder.join("key.pem"), &key)?;
    std::fs::write(folder.join("both.pem"), certificate + &key)?;
    let mut believed = RootCertStore::empty();
    believed.add(made.cert.der().clone())?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(believed)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
