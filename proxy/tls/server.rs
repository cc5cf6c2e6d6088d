//! A listener's side of handshakes: which certificate a client is shown, and
//! which of its own is asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use rustls::server::ClientHello;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::server::ServerSessionMemoryCache;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::Fault;
use super::authorities;
use super::certificate;
use super::provider;
use super::subject::Subjects;
use super::versions;
use crate::model::Alpn;
use crate::model::ClientCertificates;
use crate::model::Resumption;
use crate::model::ServerTls;

pub struct ServerPlan {
    pub config: Arc<ServerConfig>,
    pub max_handshakes: usize,
    certificates: Arc<Certificates>,
}

impl ServerPlan {
    /// `before` is what the same listener had: whoever began a session with it
    /// may go on, unless other clients are believed now.
    pub fn new(
        asked: &ServerTls,
        before: Option<(&ServerTls, &ServerPlan)>,
    ) -> Result<ServerPlan, Vec<Fault>> {
        let mut faults = Vec::new();
        let certificates = Certificates::new(asked, &mut faults);
        let verifier = asked.client.as_ref().map(|client| verifier(client, &mut faults));
        let versions = versions(asked.versions).map_err(|text| faults.push(("versions".to_owned(), text)));
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = versions.and_then(|versions| {
            let built = builder.with_protocol_versions(versions);
            built.map_err(|error| faults.push(("versions".to_owned(), error.to_string())))
        });
        let (Ok(builder), true) = (builder, faults.is_empty()) else { return Err(faults) };
        let builder = match verifier.flatten() {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let certificates = Arc::new(certificates);
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = asked.alpn.iter().map(|alpn| alpn.as_str().as_bytes().to_vec()).collect();
        let before =
            before.filter(|(was, _)| was.client == asked.client && was.resumption == asked.resumption);
        match (asked.resumption, before) {
            (Resumption::Off, _) => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            (_, Some((_, before))) => {
                config.session_storage = before.config.session_storage.clone();
                config.ticketer = before.config.ticketer.clone();
            }
            (Resumption::Cache(sessions), None) => {
                config.session_storage = ServerSessionMemoryCache::new(sessions);
            }
            (Resumption::Tickets, None) => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                match rustls::crypto::aws_lc_rs::Ticketer::new() {
                    Ok(ticketer) => config.ticketer = ticketer,
                    Err(error) => return Err(vec![("resumption".to_owned(), error.to_string())]),
                }
            }
        }
        Ok(ServerPlan { config: Arc::new(config), max_handshakes: asked.max_handshakes, certificates })
    }

    /// The certificate that a client was shown which asked for this name.
    pub fn shown(&self, name: Option<&str>) -> Option<&CertificateDer<'static>> {
        self.certificates.candidates(name).next()?.cert.first()
    }

    pub fn speaks_http2(protocol: Option<&[u8]>) -> bool {
        protocol == Some(Alpn::Http2.as_str().as_bytes())
    }
}

/// All certificates of a listener by the names they are good for.
#[derive(Debug)]
struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    /// Those of a name, or of all names one label below it.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
    strict: bool,
}

impl Certificates {
    fn new(asked: &ServerTls, faults: &mut Vec<Fault>) -> Certificates {
        let mut certificates = Certificates {
            all: Vec::new(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            strict: asked.refuse_unknown_names,
        };
        if asked.certificates.is_empty() {
            faults.push(("certificates".to_owned(), "there is none".to_owned()));
        }
        for (index, certificate) in asked.certificates.iter().enumerate() {
            match certificate::load(certificate) {
                Ok(certified) => certificates.add(certified),
                Err((part, text)) => faults.push((format!("certificates[{index}].{}", part.as_str()), text)),
            }
        }
        certificates
    }

    fn add(&mut self, certified: Arc<CertifiedKey>) {
        let index = self.all.len();
        for name in certificate::server_names(&certified) {
            let name = name.to_ascii_lowercase();
            let list = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()),
                None => self.exact.entry(name),
            };
            list.or_default().push(index);
        }
        self.all.push(certified);
    }

    /// Those for this name: more than one where there are keys of several kinds.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(parent)
        });
        let found = match found {
            Some(found) => found.as_slice(),
            None if self.strict => &[],
            None => &[0],
        };
        found.iter().filter_map(|index| self.all.get(*index))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let first = || self.candidates(name).next();
        self.candidates(name).find(usable).or_else(first).cloned()
    }
}

fn verifier(client: &ClientCertificates, faults: &mut Vec<Fault>) -> Option<Arc<dyn ClientCertVerifier>> {
    let roots = authorities(&client.authorities)
        .map_err(|text| faults.push(("client.authorities".to_owned(), text)))
        .ok()?;
    let subjects = Subjects::new(&client.subjects)
        .map_err(|(index, text)| faults.push((format!("client.subjects[{index}]"), text)))
        .ok()?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if client.required { builder } else { builder.allow_unauthenticated() };
    let inner = builder
        .build()
        .map_err(|error| faults.push(("client.authorities".to_owned(), error.to_string())))
        .ok()?;
    Some(Arc::new(Verifier { inner, subjects }))
}

/// Asks of a client's certificate, beyond its signature, that it names whom we
/// expect.
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    subjects: Subjects,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        if self.subjects.is_empty() || self.subjects.fit(leaf) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
