//! The tick's part when another process goes on in our place.

use std::os::fd::OwnedFd;

use serin_proxy::Legacy;
use tokio::time::Instant;

use super::Tick;
use super::view::Reloads;
use crate::journal::OpenError;

impl Tick {
    /// The counts with which a successor begins, and the journal, which is not
    /// ours from here on. The evidence among the counts is what the judge had
    /// seen when its last checkpoint was written: a successor's judge begins
    /// with what came after it.
    pub fn bequeath(&mut self) -> std::io::Result<(Legacy, Reloads, OwnedFd)> {
        let (now, live) = (self.clock.now(), self.handle.evidence(|_, _, _| true));
        self.evaluate_on(&live, now, Instant::now(), None);
        self.keep_everything()?;
        let mut legacy = self.handle.legacy();
        legacy.reading.splits = live;
        Ok((legacy, self.reloads, self.journal.bequeath()?))
    }

    /// There is no successor after all.
    pub fn take_back(&mut self) -> Result<(), OpenError> {
        self.journal.take_back()?;
        if let Err(cause) = self.keep_everything() {
            self.journal_failed(&cause);
        }
        Ok(())
    }
}
