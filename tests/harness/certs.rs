//! Certificates made for a test, and a client that speaks TLS.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::PATIENCE;
use super::client::Conn;

/// An authority of its own, in a folder that holds all that it has signed.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A signed certificate and its key.
#[derive(Clone)]
pub struct Signed {
    pub chain: String,
    pub key: String,
}

pub type TlsConn = Conn<StreamOwned<ClientConnection, TcpStream>>;

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are legal names");
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("a key signs").pem();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("ca.pem"), &pem).expect("the folder is ours");
        Authority { folder, issuer: Issuer::new(params, key), pem }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server of these names, the first of which is its common name.
    pub fn sign(&self, names: &[&str]) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign_with(names, |_| {})
    }

    /// For a client that goes by this URI.
    pub fn sign_client(&self, uri: &str) -> Signed {
        self.sign_with(vec!["client.example".to_owned()], |params| {
            let uri = uri.try_into().expect("tests write legal names");
            params.subject_alt_names.push(SanType::URI(uri));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    pub fn sign_with(&self, names: Vec<String>, edit: impl FnOnce(&mut CertificateParams)) -> Signed {
        let common = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names).expect("tests write legal names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "serin");
        params.distinguished_name.push(DnType::CommonName, common);
        edit(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority signs");
        Signed { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// Puts it into the folder as `name.pem` and `name.key`, each whole at once,
    /// and answers with the lines that name them in a configuration.
    pub fn put(&self, name: &str, signed: &Signed) -> String {
        for (ending, text) in [("pem", &signed.chain), ("key", &signed.key)] {
            let new = self.folder.path().join("new");
            std::fs::write(&new, text).expect("the folder is ours");
            std::fs::rename(&new, self.path(name, ending)).expect("the folder is ours");
        }
        let (chain, key) = (self.path(name, "pem"), self.path(name, "key"));
        format!("{{certificate: {}, key: {}}}", chain.display(), key.display())
    }

    pub fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{ending}"))
    }

    /// What a client needs that believes this authority.
    pub fn client(&self, own: Option<&Signed>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.pem) {
            roots.add(certificate).expect("an authority's certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the library's own choice").with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(certificates(&own.chain), key).expect("a key and its chain")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

pub fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates in PEM")
}

/// A connection whose handshake happens with its first byte.
pub fn connect(to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsConn> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(name.to_owned()).expect("tests write legal names");
    let session = ClientConnection::new(config.clone(), name).expect("a client can begin");
    Ok(Conn::over(StreamOwned::new(session, stream)))
}
