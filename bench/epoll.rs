//! The kernel's readiness queue, level-triggered: the least code that can stand between the bench
//! and its sockets, so that what is measured is the proxy.
//! A watched socket leaves the queue when it is closed; there is no other way out of it here.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

pub struct Epoll(OwnedFd);

/// Room for one batch of ready tokens; kept by the caller so that waiting allocates nothing.
pub struct Batch(Vec<libc::epoll_event>);

impl Batch {
    pub fn new() -> Batch {
        Batch(vec![libc::epoll_event { events: 0, u64: 0 }; 256])
    }

    pub fn token(&self, index: usize) -> usize {
        self.0[index].u64 as usize
    }
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes no pointer; a descriptor it returns is ours alone.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and nobody else knows it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn watch(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        let mut event =
            libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: token as u64 };
        // SAFETY: `event` lives through the call and the kernel copies it.
        let answer = unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many entries of the batch are ready; 0 when the time ran out or a signal came.
    pub fn wait(&self, batch: &mut Batch, timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of one live vector.
        let ready = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), batch.0.as_mut_ptr(), batch.0.len() as i32, timeout_ms)
        };
        if ready >= 0 {
            return Ok(ready as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
    }
}
