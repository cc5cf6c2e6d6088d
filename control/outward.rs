//! Everything that speaks to others about the rollouts, on a thread of its own: the
//! tick's thread never waits for it, whatever a receiver, a name server or a
//! handshake does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::alert::{self, Alerter};
use crate::clock::{Clock, Moment};
use crate::config::Loaded;
use crate::courier::Courier;
use crate::hook::{self, Gates, Hooks};
use crate::tick::ask::Desk;

/// How long it may take to put away what was not delivered.
const BURIAL: Duration = Duration::from_secs(1);

/// What others may ask of it. Cheap to clone.
#[derive(Clone)]
pub struct Outward {
    pub gates: Gates,
    pub courier: Courier,
    /// The configuration in force.
    pub loaded: watch::Receiver<Arc<Loaded>>,
    /// Where to do what speaks to others.
    pub runtime: Handle,
}

impl Outward {
    /// Ends with the tick that it asks, or with the process. `state` is where what
    /// has to outlive it is kept, if anywhere.
    pub fn start(
        desk: &Desk,
        loaded: watch::Receiver<Arc<Loaded>>,
        state: Option<&Path>,
        admin: SocketAddr,
    ) -> std::io::Result<Outward> {
        let gates = Gates::read(state)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let courier = Courier::new(handle.clone(), state);
        let known = loaded.clone();
        courier.instruct(move |dead| {
            let loaded = Arc::clone(&known.borrow());
            hook::anew(&loaded, dead).or_else(|| alert::anew(&loaded, dead))
        });
        let hooks = Hooks {
            desk: desk.clone(),
            loaded: loaded.clone(),
            gates: gates.clone(),
            courier: courier.clone(),
        };
        let alerter = Alerter {
            desk: desk.clone(),
            loaded: loaded.clone(),
            courier: courier.clone(),
            admin: admin.to_string(),
            clock: Clock::start(Moment::default()),
        };
        std::thread::Builder::new().name("serin-outward".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(hooks.run());
                tokio::spawn(alerter.run());
                // Letters may still be under way when there is no tick any more.
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Outward { gates, courier, loaded, runtime: handle })
    }

    /// Waits until nothing is under way, but not for ever: what has not arrived by
    /// then is kept for the next process.
    pub async fn settle(&self, most: Duration) {
        if self.is_settled(most).await {
            return;
        }
        self.courier.end();
        if !self.is_settled(BURIAL).await {
            let waiting = self.courier.waiting();
            tracing::warn!(waiting, "letters to others are lost");
        }
    }

    async fn is_settled(&self, within: Duration) -> bool {
        let looks = 100;
        for _ in 0..looks {
            if self.courier.waiting() == 0 {
                return true;
            }
            tokio::time::sleep(within / looks).await;
        }
        false
    }
}
