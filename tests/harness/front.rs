//! TLS, by rustls, for peers that speak in the clear: in front of an origin, or
//! behind a client. The bytes are passed on both ways.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certs::{Authority, certificates};

/// A running front; it ends, with all its connections, when dropped.
pub struct Front {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    to: SocketAddr,
    acceptor: Mutex<TlsAcceptor>,
    handshakes: AtomicU64,
    /// Where the origin ends, the socket is closed and nothing is announced.
    cuts: AtomicBool,
}

impl Front {
    /// Shows a certificate of this name, and chooses the first of these protocols
    /// that is offered.
    pub fn start(authority: &Authority, name: &str, protocols: &[&str], to: SocketAddr) -> Front {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can have a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            to,
            acceptor: Mutex::new(acceptor(authority, name, protocols)),
            handshakes: AtomicU64::new(0),
            cuts: AtomicBool::new(false),
        });
        let served = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, served.clone()));
            }
        });
        Front { address, shared, _runtime: runtime }
    }

    /// From the next handshake on.
    pub fn choose(&self, authority: &Authority, name: &str, protocols: &[&str]) {
        *self.shared.acceptor.lock().expect("no holder panics") = acceptor(authority, name, protocols);
    }

    pub fn cut(&self) {
        self.shared.cuts.store(true, Ordering::Relaxed);
    }

    /// Handshakes that succeeded.
    pub fn handshakes(&self) -> u64 {
        self.shared.handshakes.load(Ordering::Relaxed)
    }
}

fn acceptor(authority: &Authority, name: &str, protocols: &[&str]) -> TlsAcceptor {
    let signed = authority.sign(&[name]);
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the library's own choice").with_no_client_auth();
    let mut config = builder.with_single_cert(certificates(&signed.chain), key).expect("a key and its chain");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// What says in TLS what it hears in the clear.
pub struct Back {
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Back {
    pub fn start(authority: &Authority, name: &str, protocol: &str, to: SocketAddr) -> Back {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can have a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let connector = TlsConnector::from(authority.client(None, &[protocol]));
        let name = ServerName::try_from(name.to_owned()).expect("tests write legal names");
        runtime.spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                let (connector, name) = (connector.clone(), name.clone());
                tokio::spawn(async move {
                    let secure = connector.connect(name, TcpStream::connect(to).await?).await?;
                    relay(plain, secure, &AtomicBool::new(false)).await
                });
            }
        });
        Back { address, _runtime: runtime }
    }
}

/// An error only means that one side has left.
async fn pass(stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let acceptor = shared.acceptor.lock().expect("no holder panics").clone();
    let secure = acceptor.accept(stream).await?;
    shared.handshakes.fetch_add(1, Ordering::Relaxed);
    let plain = TcpStream::connect(shared.to).await?;
    relay(plain, secure, &shared.cuts).await
}

async fn relay<S>(plain: TcpStream, secure: S, cuts: &AtomicBool) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    plain.set_nodelay(true)?;
    let (mut secure_read, mut secure_write) = tokio::io::split(secure);
    let (mut plain_read, mut plain_write) = plain.into_split();
    let up = tokio::spawn(async move {
        let _ = copy(&mut secure_read, &mut plain_write).await;
        let _ = plain_write.shutdown().await;
        secure_read
    });
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = plain_read.read(&mut piece).await {
        secure_write.write_all(&piece[..count]).await?;
        secure_write.flush().await?;
    }
    if cuts.load(Ordering::Relaxed) {
        // Both halves go, and the socket with them.
        up.abort();
        let _ = up.await;
        return Ok(());
    }
    secure_write.shutdown().await?;
    let _ = up.await;
    Ok(())
}
