//! A program under measurement: pinned to one core, its processor time read from the kernel over
//! its whole process tree, and ended with the bench whatever way the bench ends.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// How long a program may take to end when asked, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

pub struct Process {
    child: Child,
}

/// Processor time used so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Spent {
    pub user: Duration,
    pub system: Duration,
}

/// Whether others on the machine may take the core away meanwhile.
#[derive(Clone, Copy, PartialEq)]
pub enum Priority {
    Ordinary,
    RealTime,
    /// Runs only when nobody else wants the core.
    Idle,
}

impl Process {
    /// Starts the command on these cores, in a process group of its own.
    pub fn start(mut command: Command, cores: &[usize], priority: Priority) -> Result<Process> {
        let cores = cores.to_vec();
        // SAFETY: between fork and exec only system calls are made, nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                check(libc::setpgid(0, 0))?;
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
                place(&cores, priority)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Process { child })
    }

    /// The process and its descendants.
    pub fn members(&self) -> Result<Vec<u32>> {
        Ok(self.tree()?.iter().map(|stat| stat.id).collect())
    }

    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What the process and all its descendants have used.
    pub fn spent(&self) -> Result<Spent> {
        let mut spent = Spent::default();
        let mut seen = 0;
        for stat in self.tree()? {
            spent.user += stat.spent.user;
            spent.system += stat.spent.system;
            seen += 1;
        }
        if seen == 0 {
            bail!("process {} is gone", self.child.id());
        }
        Ok(spent)
    }

    /// Resident memory of the tree.
    pub fn resident_kib(&self) -> Result<u64> {
        Ok(self.tree()?.iter().map(|stat| stat.resident_kib).sum())
    }

    fn tree(&self) -> Result<Vec<Stat>> {
        let all: Vec<Stat> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(Stat::read)
            .collect();
        let mut members = vec![self.child.id()];
        let mut next = 0;
        while next < members.len() {
            let parent = members[next];
            members.extend(all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.id));
            next += 1;
        }
        Ok(all.into_iter().filter(|stat| members.contains(&stat.id)).collect())
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: no pointers; the group is the child's own, made in `start`, and the child has
        // not been waited for while `self.child` may still be running, so the id is not reused.
        unsafe { libc::kill(-(self.child.id() as i32), signal) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
        let end = Instant::now() + GRACE;
        while Instant::now() < end && self.alive() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.alive() {
            self.signal(libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Moves the calling thread to these cores, and what it starts with it.
pub fn place(cores: &[usize], priority: Priority) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is the empty set; both structures outlive their calls.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &core in cores {
            libc::CPU_SET(core, &mut set);
        }
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set))?;
        if priority == Priority::RealTime {
            let wanted = libc::sched_param { sched_priority: 10 };
            check(libc::sched_setscheduler(0, libc::SCHED_RR, &raw const wanted))?;
        }
        if priority == Priority::Idle {
            let wanted = libc::sched_param { sched_priority: 0 };
            check(libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const wanted))?;
        }
    }
    Ok(())
}

fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

struct Stat {
    id: u32,
    parent: u32,
    spent: Spent,
    resident_kib: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Stat> {
        Stat::parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// The fields after the program's name, which alone may hold spaces and brackets.
    fn parse(id: u32, text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Stat {
            id,
            parent: number(1)? as u32,
            spent: Spent { user: ticks(number(11)?), system: ticks(number(12)?) },
            resident_kib: number(21)? * 4,
        })
    }
}

fn ticks(count: u64) -> Duration {
    // SAFETY: takes a number, gives a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    Duration::from_secs_f64(count as f64 / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_hostile_program_name() {
        let text = "7 (a) S 1 b) S 3 7 7 0 -1 4 0 0 0 0 150 25 0 0 20 0 1 0 9 1000 64 0";
        let stat = Stat::parse(7, text).expect("all fields are there");
        assert_eq!((stat.parent, stat.resident_kib), (3, 256));
        assert_eq!(stat.spent.user, ticks(150));
        assert_eq!(stat.spent.system, ticks(25));
    }

    #[test]
    fn a_busy_child_is_counted_and_gone_after_drop() {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done & wait"]);
        let process = Process::start(command, &[0], Priority::Ordinary).expect("sh is there");
        let end = Instant::now() + Duration::from_secs(20);
        while process.spent().expect("it runs").user < Duration::from_millis(30) {
            assert!(Instant::now() < end, "the busy grandchild is not counted");
            std::thread::sleep(Duration::from_millis(5));
        }
        let group = process.child.id() as i32;
        drop(process);
        // SAFETY: signal 0 only asks.
        while unsafe { libc::kill(-group, 0) } == 0 {
            assert!(Instant::now() < end, "the group is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
