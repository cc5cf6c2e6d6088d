//! Whom a call believes: the system's authorities, those of a file, or anybody.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Fault;
use crate::outside::Tls;

pub async fn secure(stream: TcpStream, host: &str, tls: &Tls) -> Result<TlsStream<TcpStream>, Fault> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| Fault::Malformed("the URL names no host that TLS knows".to_owned()))?;
    let config = config(tls).map_err(Fault::Malformed)?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    secured.map_err(|cause| Fault::Unreachable(cause.to_string()))
}

fn config(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match (&tls.ca, tls.insecure) {
        (_, true) => {
            let verifier = Arc::new(Anybody(provider()));
            Ok(Arc::new(
                builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
            ))
        }
        (Some(path), false) => trusting(from_file(path)?),
        (None, false) => {
            if let Some(config) = SYSTEM.get() {
                return Ok(Arc::clone(config));
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let config = trusting(roots)?;
            Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
        }
    }
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    if roots.is_empty() {
        return Err("there are no authorities to trust".to_owned());
    }
    Ok(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth()))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let told = |cause: &dyn std::fmt::Display| format!("{}: {cause}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|cause| told(&cause))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|cause| told(&cause))?;
        roots.add(certificate).map_err(|cause| told(&cause))?;
    }
    Ok(roots)
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.map_err(|cause| cause.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// For receivers whose operator has said that nothing is to be checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
