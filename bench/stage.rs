//! Everything that one case has standing: the load with its upstreams, and the peers before them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::duo::Duo;
use crate::h2;
use crate::h2::Call;
use crate::peers;
use crate::peers::Absent;
use crate::peers::Choices;
use crate::peers::Kind;
use crate::peers::Peer;
use crate::setting::Back;
use crate::setting::Setting;
use crate::workloads::Case;
use crate::workplace::Workplace;

pub const LOAD_CORE: usize = 1;

pub struct Stage<'a> {
    pub setting: Setting,
    pub call: Option<Call>,
    pub duo: Duo,
    pub origin: Option<h2::Origin>,
    pub peers: Vec<Peer>,
    /// Who does not take part, and why.
    pub missing: Vec<(Kind, String)>,
    pub workplace: &'a Workplace,
}

impl<'a> Stage<'a> {
    /// With no peers yet.
    pub fn new(case: Case, choices: &Choices, workplace: &'a Workplace) -> Result<Stage<'a>> {
        let Case { setting, job, call, .. } = case;
        let origin = match call {
            Some(call) if setting.back == Back::Http2 => {
                Some(h2::Origin::start(call, LOAD_CORE, choices.priority)?)
            }
            _ => None,
        };
        let duo = Duo::new(job)?;
        Ok(Stage { setting, call, duo, origin, peers: Vec::new(), missing: Vec::new(), workplace })
    }

    pub fn upstreams(&self) -> [SocketAddr; 2] {
        self.origin.as_ref().map_or_else(|| self.duo.upstreams(), |origin| origin.addresses)
    }

    /// What each version was asked since the beginning.
    pub fn asked(&self) -> [u64; 2] {
        self.origin.as_ref().map_or_else(|| self.duo.asked(), h2::Origin::asked)
    }

    /// Starts these peers; those that are not there or cannot do the job are noted.
    pub fn fill(&mut self, kinds: &[Kind], choices: &Choices) -> Result<()> {
        for &kind in kinds {
            match self.one(kind, choices) {
                Ok(Ok(peer)) => self.peers.push(peer),
                Ok(Err(why)) => self.missing.push((kind, why)),
                // A table without serin is not what was asked for; one without a rival still is.
                Err(error) if kind.is_serin() => return Err(error),
                Err(error) => {
                    eprintln!("{}: {error:#}", kind.name());
                    self.missing.push((kind, format!("did not start: {error:#}")));
                }
            }
        }
        Ok(())
    }

    /// Starts one peer and waits for its first right answer.
    pub fn one(&mut self, kind: Kind, choices: &Choices) -> Result<std::result::Result<Peer, String>> {
        if kind == Kind::Direct && (self.call.is_some() || self.duo.job.tls.is_some()) {
            return Ok(Err("the upstreams speak plain HTTP/1".to_owned()));
        }
        let (setting, upstreams, workplace) = (self.setting, self.upstreams(), self.workplace);
        let call = self.call;
        let duo = &mut self.duo;
        let mut reaches = |target| match call {
            None => duo.reaches(target, Duration::from_secs(2)),
            Some(call) => probed(duo, target, call),
        };
        Ok(peers::start(kind, &setting, choices, upstreams, workplace, &mut reaches)?.map_err(|absent| {
            match absent {
                Absent::NotFound => "not found on this machine".to_owned(),
                Absent::CannotDoThis => "cannot do this job".to_owned(),
                Absent::TakesTooLong => {
                    "left out: with so many routes it answers tens of requests a second, and takes the core \
                     from the others meanwhile"
                        .to_owned()
                }
            }
        }))
    }
}

/// The whole answer is looked at, by a thread of its own, while the upstreams serve.
pub fn probed(duo: &mut Duo, target: SocketAddr, call: Call) -> Result<bool> {
    let asking = std::thread::spawn(move || h2::probe(target, call));
    duo.serve_while(|| Ok(!asking.is_finished()))?;
    Ok(asking.join().is_ok_and(|right| right.is_ok()))
}
