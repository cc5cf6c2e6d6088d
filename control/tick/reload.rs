//! A changed file, taken whole or not at all.

use std::sync::Arc;

use serin_proxy::{Handle, Marks};

use super::Tick;
use super::view::Reload;
use crate::certificates;
use crate::config;
use crate::config::problem::Problem;
use crate::config::{Files, Loaded};
use crate::fleet::Governed;
use crate::journal::Entry;
use crate::rollout::{Command, Event, EventKind};
use crate::source;
use crate::source::Change;

impl Tick {
    /// Reads the file again, changed or not.
    pub(super) fn reload_file(&mut self) -> Reload {
        match source::file::read(&self.path) {
            Ok(text) => self.reload(text),
            Err(cause) => self.reject(vec![format!("{}: {cause}", self.path.display())]),
        }
    }

    /// The file has changed, or can no longer be read.
    pub(super) fn notice(&mut self, change: Change) {
        match change.text {
            // We were asked to read it before its watcher was.
            Ok(text) if text == self.text && self.same_files() => {}
            Ok(text) => drop(self.reload(text)),
            Err(cause) => drop(self.reject(vec![format!("{}: {cause}", change.origin)])),
        }
    }

    fn same_files(&self) -> bool {
        self.referenced.again(source::file::read_referenced) == self.referenced
    }

    /// On any problem everything stays as it is.
    fn reload(&mut self, text: String) -> Reload {
        let origin = self.path.display().to_string();
        self.text = text;
        let files = Files::beside(&self.path, source::file::read_referenced);
        let loaded = config::load(&origin, &self.text, &files);
        // Also when it is refused: what was wrong may be one of them.
        self.referenced = files.referenced();
        self.watch.follow(self.referenced.clone());
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => return self.reject(problems.iter().map(Problem::to_string).collect()),
        };
        let (now, reading) = (self.clock.now(), self.handle.readings());
        let model = self.fleet.model_after(&loaded, &reading);
        if let Err(problems) = self.handle.apply(&model, loaded.drain.timeout) {
            let line =
                |problem: serin_proxy::Problem| format!("{origin}: {}: {}", problem.path, problem.text);
            return self.reject(problems.into_iter().map(line).collect());
        }
        self.keep_looks();
        let adopted = self.fleet.adopt(&loaded, &reading, now);
        for rollout in &adopted.dropped {
            tracing::info!(rollout, "rollout is no longer configured");
        }
        self.model = model;
        self.certificates = certificates::in_use(&self.model);
        self.metrics = loaded.metrics.clone();
        self.board.configure(&loaded.compared);
        self.mark_all();
        self.record_adopted(&adopted.dropped, &adopted.changed);
        let reload = self.accept(&loaded);
        self.succeed_the_last(adopted.superseded);
        reload
    }

    /// Tells of rollouts whose release is gone, and starts those of new releases
    /// that are to start by themselves.
    pub(super) fn succeed_the_last(&mut self, superseded: Vec<String>) {
        for rollout in superseded {
            let text = "another release came while this one was under way: it ends here".to_owned();
            let event =
                Event { at: self.clock.now(), rollout, kind: EventKind::Superseded, text, canary_parts: 0 };
            self.tell(event, None);
        }
        for name in self.fleet.take_due() {
            tracing::info!(rollout = name, "a new release starts by itself");
            self.evaluate(Some((&name, Command::Start)));
        }
    }

    /// Tells the proxy of every rollout's ages anew.
    pub(super) fn mark_all(&self) {
        for governed in &self.fleet.rollouts {
            let (slow_us, reveal_us) = governed.rollout.marks();
            mark(&self.handle, governed, Marks { slow_us, reveal_us });
        }
    }

    fn record_adopted(&mut self, dropped: &[String], changed: &[String]) {
        let at = self.clock.now();
        let mut entries: Vec<Entry<'_>> =
            dropped.iter().map(|rollout| Entry::Dropped { at, rollout }).collect();
        let checkpoints: Vec<_> =
            self.fleet.rollouts.iter().map(|governed| governed.rollout.checkpoint()).collect();
        for (governed, checkpoint) in self.fleet.rollouts.iter().zip(&checkpoints) {
            let spec = governed.spec();
            if changed.contains(&spec.name) {
                entries.push(Entry::Governs { at, rollout: &spec.name, spec, canary: &governed.canary });
                entries.push(Entry::Checkpoint { at, rollout: &spec.name, checkpoint });
            }
        }
        if entries.is_empty() {
            return;
        }
        let written = self.journal.append(&entries).and_then(|()| self.journal.sync());
        let changed = |governed: &&mut Governed| changed.contains(&governed.spec().name);
        for governed in self.fleet.rollouts.iter_mut().filter(changed) {
            if written.is_ok() { governed.looks.kept_with_state() } else { governed.looks.missed() }
        }
        if let Err(cause) = written {
            self.journal_failed(&cause);
        }
    }

    fn accept(&mut self, loaded: &Loaded) -> Reload {
        self.reloads.accepted += 1;
        self.drain.send_replace(loaded.drain);
        self.loaded.send_replace(Arc::new(loaded.clone()));
        let mut warnings: Vec<String> = loaded.warnings.iter().map(Problem::to_string).collect();
        warnings.extend(self.fixed.changed(loaded));
        warnings.extend(certificates::warnings(&loaded.model, self.clock.now()));
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(rollouts = loaded.rollouts.len(), "configuration reloaded");
        self.last_reload = Reload { at: self.clock.now().0, accepted: true, problems: Vec::new(), warnings };
        self.last_reload.clone()
    }

    fn reject(&mut self, problems: Vec<String>) -> Reload {
        self.reloads.rejected += 1;
        for problem in &problems {
            tracing::error!("{problem}");
        }
        tracing::error!(problems = problems.len(), "configuration refused, everything stays as it is");
        self.last_reload = Reload { at: self.clock.now().0, accepted: false, problems, warnings: Vec::new() };
        self.last_reload.clone()
    }
}

pub(super) fn mark(handle: &Handle, governed: &Governed, marks: Marks) {
    for site in governed.spec().sites() {
        if let Err(cause) = handle.mark(&site.split, marks) {
            tracing::error!(split = site.split, %cause, "ages are not marked");
        }
    }
}
