//! What a process begins with: its own, or what another hands over.

use std::net::TcpListener;
use std::path::Path;

use serin_proxy::{Inherited, Legacy};

use crate::config::Loaded;
use crate::handover::{Elder, Succession};
use crate::journal::{Journal, OpenError, Past};
use crate::systemd;
use crate::tick::view::Reloads;

use super::StartError;

pub struct Claim {
    pub journal: Journal,
    pub past: Past,
    pub sockets: Vec<Inherited>,
    pub admin: Option<TcpListener>,
    pub legacy: Option<Legacy>,
    pub reloads: Reloads,
    /// Where another process waits for our first word.
    pub succession: Option<Succession>,
}

impl Claim {
    /// Everything by ourselves, with the sockets that the system opened for us.
    pub fn own(state: &Path, loaded: &Loaded) -> Result<Claim, StartError> {
        let (journal, past) = match Journal::open(state) {
            Ok(opened) => opened,
            // Nobody asked for a place, and nothing depends on there being one.
            Err(OpenError::Unwritable { directory, cause })
                if loaded.state.is_none() && loaded.rollouts.is_empty() =>
            {
                tracing::warn!(
                    directory = %directory.display(), %cause,
                    "there is no state directory: weights set by hand are not kept and cannot rise"
                );
                (Journal::nowhere(&directory), Past::default())
            }
            Err(cause) => return Err(cause.into()),
        };
        let sockets = systemd::sockets().map_err(StartError::Inherited)?;
        let (legacy, reloads) = (None, Reloads::default());
        Ok(Claim { journal, past, sockets, admin: None, legacy, reloads, succession: None })
    }

    /// What a running serin on this state directory has; alone where none runs.
    pub async fn inherited(state: &Path, loaded: &Loaded) -> Result<Claim, StartError> {
        let Some(elder) = Elder::find(state).await.map_err(StartError::Elder)? else {
            tracing::info!("nobody runs on the state directory; starting afresh");
            return Claim::own(state, loaded);
        };
        let (succession, sockets, admin) = elder.split();
        let (succession, estate) = succession.inherit().await.map_err(StartError::Elder)?;
        let (journal, past) = Journal::inherit(state, estate.lock)?;
        let (legacy, reloads, succession) = (Some(estate.legacy), estate.reloads, Some(succession));
        Ok(Claim { journal, past, sockets, admin, legacy, reloads, succession })
    }
}
