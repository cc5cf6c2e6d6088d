//! What the proxy looks after beside its requests: one thread with a runtime of
//! its own, so that nothing here ever makes a worker wait.
//!
//! Its work comes in [`Chore`]s, futures that run as long as the table asks for
//! them. [`chores`] says what a table asks for; a kind of upkeep joins by adding
//! its own there and by nothing else. When the table is replaced, chores that it
//! still asks for go on undisturbed, the others are dropped where they stand.
//! What a chore finds out it tells [`Hosts`], which tells the workers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::AbortHandle;

mod checks;
mod outliers;

use crate::hosts::Hosts;
use crate::hosts::Name;
use crate::resolve;
use crate::table::Table;

/// Ends with its thread when dropped.
pub struct Upkeep {
    table: watch::Sender<Arc<Table>>,
}

/// One thing to look after.
pub struct Chore {
    /// Which kind, and with what terms: a chore with other terms is another.
    pub terms: String,
    /// Whom it is about.
    pub hosts: Arc<Hosts>,
    /// Runs until it is dropped; may end early where nothing is left to do.
    pub run: Pin<Box<dyn Future<Output = ()>>>,
}

struct Running {
    terms: String,
    hosts: Arc<Hosts>,
    handle: AbortHandle,
}

/// All that is to be looked after under this table.
fn chores(table: &Table) -> Vec<Chore> {
    let names = table.endpoints.iter().flat_map(resolving);
    let outliers = table.endpoints.iter().filter_map(outliers::chore);
    names.chain(checks::chores(table)).chain(outliers).collect()
}

fn resolving(hosts: &Arc<Hosts>) -> Vec<Chore> {
    let chore = |name: Name| Chore {
        terms: format!("resolve {}:{} {:?}", name.host, name.port, hosts.dns),
        hosts: hosts.clone(),
        run: Box::pin(resolve::keep(hosts.clone(), name, hosts.dns.clone())),
    };
    hosts.names().into_iter().map(chore).collect()
}

impl Upkeep {
    pub fn start(table: Arc<Table>) -> io::Result<Upkeep> {
        let (sender, receiver) = watch::channel(table);
        let (built, standing) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("serin-upkeep".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    // Nobody listens any more only where starting was given up.
                    let _ = built.send(Ok(()));
                    runtime.block_on(look_after(receiver));
                }
                Err(error) => drop(built.send(Err(error))),
            }
        })?;
        standing.recv().unwrap_or_else(|_| Err(io::Error::other("the upkeep thread ended at once")))?;
        Ok(Upkeep { table: sender })
    }

    /// Looks after this table from now on.
    pub fn turn_to(&self, table: Arc<Table>) {
        self.table.send_replace(table);
    }
}

async fn look_after(mut tables: watch::Receiver<Arc<Table>>) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        let wanted = chores(&tables.borrow_and_update());
        running = reconcile(running, wanted);
        // An error means that the proxy is gone.
        if tables.changed().await.is_err() {
            return;
        }
    }
}

fn reconcile(mut running: Vec<Running>, wanted: Vec<Chore>) -> Vec<Running> {
    let mut next = Vec::with_capacity(wanted.len());
    for chore in wanted {
        let same = |other: &Running| other.terms == chore.terms && Arc::ptr_eq(&other.hosts, &chore.hosts);
        match running.iter().position(same) {
            Some(index) => next.push(running.swap_remove(index)),
            None => {
                let handle = tokio::task::spawn_local(chore.run).abort_handle();
                next.push(Running { terms: chore.terms, hosts: chore.hosts, handle });
            }
        }
    }
    running.iter().for_each(|gone| gone.handle.abort());
    next
}
