//! What a figure is worth depends on where it was taken: the machine, the day, the commit.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workplace::first_line;
use crate::workplace::repository;

pub fn facts() -> Vec<String> {
    let mut facts = vec![
        format!("date: {} UTC", shell("date", &["-u", "+%F %H:%M"])),
        format!("processor: {}, {} cores", processor(), cores()),
        format!("kernel: {}", shell("uname", &["-srm"])),
        format!("memory: {}", memory()),
        format!("clock source: {}", file("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        format!("congestion control: {}", file("/proc/sys/net/ipv4/tcp_congestion_control")),
        format!("load average before the run: {}", file("/proc/loadavg")),
        format!("compiler: {}", shell("rustc", &["--version"])),
        format!("commit: {}", commit()),
    ];
    if let Some(host) = hypervisor() {
        facts.insert(2, format!("virtual machine: {host}"));
    }
    facts
}

/// When this is, of which commit, and how busy the machine has been.
pub fn moment() -> String {
    format!(
        "{} UTC, commit {}, load average {}",
        shell("date", &["-u", "+%F %H:%M"]),
        commit(),
        file("/proc/loadavg")
    )
}

/// When a file was written.
pub fn written(path: &Path) -> String {
    shell("date", &["-u", "-r", &path.display().to_string(), "+%F %H:%M UTC"])
}

pub fn today() -> String {
    shell("date", &["-u", "+%F"])
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> String {
    cpuinfo("model name").unwrap_or_else(|| "unknown".to_owned())
}

fn hypervisor() -> Option<String> {
    cpuinfo("flags")?.split(' ').any(|flag| flag == "hypervisor").then(|| {
        let name = file("/sys/devices/virtual/dmi/id/sys_vendor");
        if name.is_empty() { "yes".to_owned() } else { name }
    })
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> String {
    let text = file("/proc/meminfo");
    let kib = text.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.1} GiB", kib as f64 / 1024.0 / 1024.0))
}

pub fn commit() -> String {
    let git = |arguments: &[&str]| first_line(Command::new("git").args(arguments).current_dir(repository()));
    let name = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(_) => format!("{name} with local changes"),
        None => name,
    }
}

fn shell(program: &str, arguments: &[&str]) -> String {
    first_line(Command::new(program).args(arguments)).unwrap_or_else(|| "unknown".to_owned())
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
