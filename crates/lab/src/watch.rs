//! A socket that is watched by a thread of its own until it is asked for what came.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread::{self, JoinHandle},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};

/// A watch that goes on until it is finished.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    thread: JoinHandle<io::Result<T>>,
    stop: OwnedFd,
}

impl<T: Default + Send + 'static> Watch<T> {
    /// Starts to watch a socket that does not block; `take` takes in all that waits there.
    pub(crate) fn start(
        socket: OwnedFd,
        take: impl Fn(&OwnedFd, &mut T) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (stopped, stop) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self {
            thread: thread::spawn(move || watch(&socket, &stopped, take)),
            stop,
        })
    }

    /// Ends the watch; everything that has arrived by now is taken in.
    pub(crate) fn finish(self) -> io::Result<T> {
        drop(self.stop);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn watch<T: Default>(
    socket: &OwnedFd,
    stopped: &OwnedFd,
    take: impl Fn(&OwnedFd, &mut T) -> io::Result<()>,
) -> io::Result<T> {
    let mut taken = T::default();
    loop {
        let mut events = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut events, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            result => result?,
        };
        let stop = events[1].revents().is_some_and(|flags| !flags.is_empty());
        take(socket, &mut taken)?;
        if stop {
            return Ok(taken);
        }
    }
}
