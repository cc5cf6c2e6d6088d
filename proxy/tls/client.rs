//! A version's side of handshakes: whom its endpoints have to be.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

use super::Fault;
use super::authorities;
use super::certificate;
use super::provider;
use super::subject::Subjects;
use super::versions;
use crate::model;
use crate::model::Alpn;
use crate::model::ClientTls;
use crate::model::Protocol;
use crate::model::Trust;

pub struct ClientPlan {
    pub config: Arc<ClientConfig>,
    name: Name,
}

enum Name {
    Address,
    Fixed(ServerName<'static>),
    Request,
}

impl ClientPlan {
    pub fn new(asked: &ClientTls, protocol: Protocol) -> Result<ClientPlan, Vec<Fault>> {
        let mut faults = Vec::new();
        let name = match &asked.name {
            model::ServerName::Address => Name::Address,
            model::ServerName::Request => Name::Request,
            model::ServerName::Name(name) => match ServerName::try_from(name.clone()) {
                Ok(name) => Name::Fixed(name),
                Err(_) => {
                    faults.push(("name".to_owned(), format!("{name:?} is no name of a server")));
                    Name::Address
                }
            },
        };
        let own = asked.certificate.as_ref().map(certificate::load).transpose();
        let own = own.unwrap_or_else(|(part, text)| {
            faults.push((format!("certificate.{}", part.as_str()), text));
            None
        });
        let verifier = verifier(asked, &mut faults);
        let versions = versions(asked.versions).map_err(|text| faults.push(("versions".to_owned(), text)));
        let (Ok(versions), Some(verifier), true) = (versions, verifier, faults.is_empty()) else {
            return Err(faults);
        };
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.map_err(|error| vec![("versions".to_owned(), error.to_string())])?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match own {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
            None => builder.with_no_client_auth(),
        };
        let offered: &[Alpn] = match protocol {
            Protocol::Http1 => &[Alpn::Http1],
            Protocol::Http2 => &[Alpn::Http2],
            Protocol::Auto => &[Alpn::Http2, Alpn::Http1],
        };
        config.alpn_protocols = offered.iter().map(|alpn| alpn.as_str().as_bytes().to_vec()).collect();
        Ok(ClientPlan { config: Arc::new(config), name })
    }

    /// Does the name depend on the request?
    pub fn asks_for_host(&self) -> bool {
        matches!(self.name, Name::Request)
    }

    /// `host` is the request's, without its port.
    pub fn name(&self, host: Option<&str>, endpoint: Option<IpAddr>) -> Option<ServerName<'static>> {
        let address = || endpoint.map(|address| ServerName::IpAddress(address.into()));
        match &self.name {
            Name::Fixed(name) => Some(name.clone()),
            Name::Address => address().or_else(|| ServerName::try_from("localhost").ok()),
            Name::Request => {
                let host = host?;
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                ServerName::try_from(host.to_owned()).ok()
            }
        }
    }
}

fn verifier(asked: &ClientTls, faults: &mut Vec<Fault>) -> Option<Arc<dyn ServerCertVerifier>> {
    let subjects = Subjects::new(&asked.subjects)
        .map_err(|(index, text)| faults.push((format!("subjects[{index}]"), text)))
        .ok()?;
    let roots = match &asked.trust {
        Trust::Anybody => return Some(Arc::new(Credulous)),
        Trust::System => system().map_err(|text| faults.push(("trust".to_owned(), text))).ok()?,
        Trust::Authorities(pem) => {
            let read = authorities(pem).map_err(|text| faults.push(("trust.authorities".to_owned(), text)));
            Arc::new(read.ok()?)
        }
    };
    if subjects.is_empty() {
        let built = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let built = built.map_err(|error| faults.push(("trust".to_owned(), error.to_string())));
        return Some(built.ok()?);
    }
    Some(Arc::new(BySubject { roots, subjects }))
}

/// Whom the system believes, read once.
fn system() -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err("the system has no certificates of authorities; give `ca`".to_owned());
    }
    Ok(roots.clone())
}

/// Believes a certificate that names whom we expect, whatever name was asked for.
struct BySubject {
    roots: Arc<RootCertStore>,
    subjects: Subjects,
}

/// Believes everybody.
#[derive(Debug)]
struct Credulous;

impl fmt::Debug for BySubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySubject")
    }
}

impl ServerCertVerifier for BySubject {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if self.subjects.fit(leaf) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(rustls::CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
}

fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
}
