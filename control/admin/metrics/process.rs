//! The process as the kernel sees it, read from `/proc`.

use std::fs::{read_dir, read_to_string};

use super::Page;
use crate::names;

/// Linux shows times to user space in hundredths of a second on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds what can be read; elsewhere than on Linux that is nothing.
pub fn read(page: &mut Page<'_>) {
    if let Some(bytes) = resident_bytes() {
        page.gauge(names::PROCESS_RESIDENT_MEMORY_BYTES, "Resident memory.", &[], bytes);
    }
    if let Ok(entries) = read_dir("/proc/self/fd") {
        // The directory that is being read is itself open.
        let open = entries.count().saturating_sub(1);
        page.gauge(names::PROCESS_OPEN_FDS, "Open file descriptors.", &[], open as f64);
    }
    let Some((cpu_ticks, start_ticks)) = times() else { return };
    let help = "User and system time.";
    page.counter_seconds(names::PROCESS_CPU_SECONDS_TOTAL, help, &[], cpu_ticks / TICKS_PER_SECOND);
    if let Some(boot) = boot_seconds() {
        let start = boot + start_ticks / TICKS_PER_SECOND;
        page.gauge(names::PROCESS_START_TIME_SECONDS, "Start, since the Unix epoch.", &[], start);
    }
}

fn resident_bytes() -> Option<f64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

/// CPU time and start, in ticks.
fn times() -> Option<(f64, f64)> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold anything, so count from its end.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((field(11)? + field(12)?, field(19)?))
}

fn boot_seconds() -> Option<f64> {
    let stat = read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
