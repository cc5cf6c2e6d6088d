//! A process of serin hands its sockets, its journal and its counts to the next.
//!
//! The two meet at a Unix socket in the state directory. Until the new one has
//! everything that can fail behind it the old one serves on; between the journal's
//! passing and the new one's first word as its owner, only the judge rests, and if
//! that word does not come the old one takes everything back. Afterwards the old
//! one tells what it still counts, and obeys the weights that the new one decides.
//!
//! It knows nothing of what it carries.

mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serin_proxy::{Inherited, Legacy, Reading, Weights};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tick::view::Reloads;

const SOCKET: &str = "handover.sock";
/// What the words mean; processes of another kind do not inherit from each other.
const FORMAT: u32 = 1;
/// For each word that the other is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Hello {
        format: u32,
    },
    /// As many descriptors follow.
    Sockets {
        listeners: Vec<Named>,
    },
    /// The new one's configuration is read, and it wants the rest.
    Ready,
    /// The journal's lock follows.
    Yours {
        legacy: Box<Legacy>,
        reloads: Reloads,
    },
    Live,
    Counts(Box<Reading>),
    Weights(BTreeMap<String, Weights>),
}

/// A listening socket; the admin API's has no name.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    listener: Option<(String, Option<SocketAddr>)>,
}

/// Where successors knock. Only who may write to the state directory can.
pub struct Doorstep {
    listener: tokio::net::UnixListener,
    path: PathBuf,
}

/// A successor that has knocked.
pub struct Heir {
    stream: UnixStream,
    pub pid: Option<u32>,
}

/// The process that was there before us.
pub struct Elder {
    stream: UnixStream,
    pub sockets: Vec<Inherited>,
    pub admin: Option<TcpListener>,
}

/// All that an elder leaves.
pub struct Estate {
    pub legacy: Legacy,
    pub reloads: Reloads,
    pub lock: OwnedFd,
}

impl Doorstep {
    /// Must be called by the owner of the state directory; what another left
    /// there is removed.
    pub fn open(state: &Path) -> io::Result<Doorstep> {
        let path = state.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        Ok(Doorstep { listener, path })
    }

    /// The next who knocks and speaks our language.
    pub async fn next(&self) -> Heir {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match welcome(stream).await {
                    Ok(heir) => return heir,
                    Err(cause) => tracing::warn!(%cause, "somebody knocked who is no successor"),
                },
                Err(cause) => {
                    tracing::warn!(%cause, path = %self.path.display(), "cannot hear successors");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn welcome(stream: tokio::net::UnixStream) -> io::Result<Heir> {
    let pid = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
    let stream = blocking(stream.into_std()?)?;
    aside(move || match wire::receive(&stream)? {
        Word::Hello { format: FORMAT } => Ok(Heir { stream, pid }),
        word => Err(strange(&word)),
    })
    .await
}

fn blocking(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waiting for the other process must not hold up our own.
async fn aside<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

fn strange(word: &Word) -> io::Error {
    let name = format!("{word:?}");
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    io::Error::new(io::ErrorKind::InvalidData, format!("an unexpected word: {name}"))
}

impl Heir {
    /// Shows the sockets, and returns when the successor wants the rest.
    pub async fn prepare(self, sockets: Vec<Inherited>, admin: TcpListener) -> io::Result<Heir> {
        aside(move || {
            let name = |socket: &Inherited| Named { listener: Some((socket.name.clone(), socket.asked)) };
            let mut listeners: Vec<Named> = sockets.iter().map(name).collect();
            listeners.push(Named { listener: None });
            wire::send(&self.stream, &Word::Sockets { listeners })?;
            let descriptors = sockets.iter().map(|socket| socket.socket.as_fd()).chain([admin.as_fd()]);
            wire::send_descriptors(&self.stream, &descriptors.collect::<Vec<_>>())?;
            match wire::receive(&self.stream)? {
                Word::Ready => Ok(self),
                word => Err(strange(&word)),
            }
        })
        .await
    }

    /// Hands over the rest. When this fails the successor has ended.
    pub async fn bequeath(self, estate: Estate) -> io::Result<Draining> {
        aside(move || {
            let given = self.give(&estate);
            if given.is_err() {
                self.end();
            }
            given.map(|()| self.stream)
        })
        .await
        .and_then(|stream| {
            stream.set_nonblocking(true)?;
            let (read, write) = tokio::net::UnixStream::from_std(stream)?.into_split();
            Ok(Draining { write, read: Some(read) })
        })
    }

    fn give(&self, estate: &Estate) -> io::Result<()> {
        let legacy = Box::new(estate.legacy.clone());
        wire::send(&self.stream, &Word::Yours { legacy, reloads: estate.reloads })?;
        wire::send_descriptors(&self.stream, &[estate.lock.as_fd()])?;
        match wire::receive(&self.stream)? {
            Word::Live => Ok(()),
            word => Err(strange(&word)),
        }
    }

    /// There must never be two owners: whoever did not say in time that he is one
    /// will not say so later.
    fn end(&self) {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && let Err(cause) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        {
            tracing::debug!(%cause, "the successor is gone already");
        }
    }
}

/// The old one's side of what follows.
pub struct Draining {
    write: tokio::net::unix::OwnedWriteHalf,
    read: Option<tokio::net::unix::OwnedReadHalf>,
}

impl Draining {
    pub async fn tell(&mut self, reading: Reading) -> io::Result<()> {
        self.write.write_all(&wire::encode(&Word::Counts(Box::new(reading)))?).await
    }

    /// Hears the successor's weights until it has no more to say. Called once.
    pub fn obey(&mut self, mut obey: impl FnMut(&str, &Weights) + Send + 'static) {
        let Some(mut read) = self.read.take() else { return };
        tokio::spawn(async move {
            while let Ok(Word::Weights(weights)) = hear(&mut read).await {
                weights.iter().for_each(|(split, weights)| obey(split, weights));
            }
        });
    }
}

async fn hear(read: &mut tokio::net::unix::OwnedReadHalf) -> io::Result<Word> {
    let mut head = [0; 4];
    read.read_exact(&mut head).await?;
    let mut bytes = vec![0; wire::length(head)?];
    read.read_exact(&mut bytes).await?;
    wire::decode(&bytes)
}

impl Elder {
    /// Whoever runs on this state directory; `None` where nobody does.
    pub async fn find(state: &Path) -> io::Result<Option<Elder>> {
        let path = state.join(SOCKET);
        aside(move || {
            let stream = match UnixStream::connect(path) {
                Ok(stream) => blocking(stream)?,
                Err(cause) => {
                    return match cause.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                        _ => Err(cause),
                    };
                }
            };
            wire::send(&stream, &Word::Hello { format: FORMAT })?;
            let Word::Sockets { listeners } = wire::receive(&stream)? else {
                return Err(io::Error::other("the running serin hands nothing over"));
            };
            let descriptors = wire::receive_descriptors(&stream, listeners.len())?;
            let (mut sockets, mut admin) = (Vec::new(), None);
            for (named, descriptor) in listeners.into_iter().zip(descriptors) {
                let socket = TcpListener::from(descriptor);
                match named.listener {
                    Some((name, asked)) => sockets.push(Inherited { name, asked, socket }),
                    None => admin = Some(socket),
                }
            }
            Ok(Some(Elder { stream, sockets, admin }))
        })
        .await
    }

    pub fn split(self) -> (Succession, Vec<Inherited>, Option<TcpListener>) {
        (Succession(self.stream), self.sockets, self.admin)
    }
}

/// The new one's side, until it is the owner.
pub struct Succession(UnixStream);

impl Succession {
    /// From here on only we write the journal; if we end before we have
    /// proclaimed ourselves, the elder goes on.
    pub async fn inherit(self) -> io::Result<(Succession, Estate)> {
        aside(move || {
            wire::send(&self.0, &Word::Ready)?;
            let Word::Yours { legacy, reloads } = wire::receive(&self.0)? else {
                return Err(io::Error::other("the running serin keeps its journal"));
            };
            let lock = wire::receive_descriptors(&self.0, 1)?.swap_remove(0);
            Ok((self, Estate { legacy: *legacy, reloads, lock }))
        })
        .await
    }

    /// From here on the old one ends.
    pub fn proclaim(self) -> io::Result<Inheriting> {
        wire::send(&self.0, &Word::Live)?;
        self.0.set_nonblocking(true)?;
        let (read, write) = tokio::net::UnixStream::from_std(self.0)?.into_split();
        Ok(Inheriting { read, write })
    }
}

/// The new one's side of what follows.
pub struct Inheriting {
    read: tokio::net::unix::OwnedReadHalf,
    write: tokio::net::unix::OwnedWriteHalf,
}

impl Inheriting {
    /// Takes what the old one counts until it has ended, and tells it of weights
    /// whenever `weights` answers otherwise than before.
    pub async fn follow(
        mut self,
        mut take: impl FnMut(Reading),
        mut weights: impl FnMut() -> BTreeMap<String, Weights>,
    ) {
        let mut told = BTreeMap::new();
        loop {
            let now = weights();
            if now != told {
                let word = wire::encode(&Word::Weights(now.clone()));
                if let Ok(word) = word
                    && self.write.write_all(&word).await.is_err()
                {
                    // It ends; what it counted last is still to be read.
                    tracing::debug!("the old process hears no more of weights");
                }
                told = now;
            }
            match hear(&mut self.read).await {
                Ok(Word::Counts(reading)) => take(*reading),
                Ok(word) => tracing::warn!(cause = %strange(&word), "from the old process"),
                Err(_) => return,
            }
        }
    }
}
