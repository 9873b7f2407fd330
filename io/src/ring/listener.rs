//! Listening sockets of a ring: one multishot accept each.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{opcode, types};

use super::completion::{Completion, Kind, Operation};
use super::{LISTENERS_MAX, Ring};
use crate::slots::Key;

/// A listener that the ring accepts from.
pub(super) struct Listening {
    listener: TcpListener,
    token: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Accepting,
    /// An error ended the accept; `resume_accept` begins it anew.
    Paused,
    /// The cancellation is under way; the listener is closed with its last completion.
    Stopping,
}

impl Listening {
    /// It is not to accept again by itself. For the end of the whole ring.
    pub fn abandon(&mut self) {
        self.state = State::Stopping;
    }
}

impl Ring {
    /// Accepts from a listener, until it is stopped or something stops it. Its completions carry `token`.
    ///
    /// The listener is in blocking mode, as std makes it: io_uring takes O_NONBLOCK to mean "fail rather than wait".
    pub fn listen(&mut self, listener: TcpListener, token: u64) {
        let listening = Listening { listener, token, state: State::Paused };
        let Ok(key) = self.listeners.insert(listening) else {
            panic!("a ring has at most {LISTENERS_MAX} listeners");
        };
        self.accept(key);
    }

    /// Accepts again after [`Completion::AcceptStopped`]. The caller decides when, so that exhausted descriptors do not
    /// make accept spin. Does nothing for a listener that accepts or is gone.
    pub fn resume_accept(&mut self, token: u64) {
        let paused = |listening: &Listening| listening.token == token && listening.state == State::Paused;
        if let Some(key) = self.listeners.find(paused) {
            self.accept(key);
        }
    }

    /// Stops accepting and closes the listener; connections that nobody has accepted yet are refused. Ends with
    /// [`Completion::AcceptStopped`].
    pub fn stop_listening(&mut self, token: u64) {
        let open = |listening: &Listening| listening.token == token && listening.state != State::Stopping;
        let Some(key) = self.listeners.find(open) else { return };
        let Some(listening) = self.listeners.get_mut(key) else { return };
        if listening.state == State::Paused {
            self.listeners.remove(key);
            self.ready.push_back(Completion::AcceptStopped { token, error: None });
            return;
        }
        listening.state = State::Stopping;
        self.cancel(Operation { kind: Kind::Accept, key });
    }

    fn accept(&mut self, key: Key) {
        let Some(listening) = self.listeners.get_mut(key) else { return };
        listening.state = State::Accepting;
        let entry = opcode::AcceptMulti::new(types::Fd(listening.listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry, Operation { kind: Kind::Accept, key });
    }

    pub(super) fn accepted(&mut self, key: Key, result: io::Result<usize>, more: bool) -> Option<Completion> {
        let listening = self.listeners.get(key).expect("a listener stays until its accept has ended");
        let (token, state) = (listening.token, listening.state);
        // SAFETY: a successful accept's result is a descriptor that the kernel has just opened for us, and this is
        // the only place that takes it.
        let result = result.map(|socket| unsafe { OwnedFd::from_raw_fd(socket as RawFd) });
        if !more {
            match (state, &result) {
                (State::Stopping, _) => {
                    self.listeners.remove(key);
                    self.ready.push_back(Completion::AcceptStopped { token, error: None });
                }
                (_, Ok(_)) => self.accept(key),
                (_, Err(error)) if is_of_one_connection(error) => self.accept(key),
                (_, Err(_)) => {
                    self.listeners.get_mut(key).expect("it was there a moment ago").state = State::Paused;
                }
            }
        }
        match result {
            Ok(socket) => {
                self.stats.accepts += 1;
                Some(Completion::Accepted { token, socket })
            }
            Err(_) if more || state == State::Stopping => None,
            Err(error) if is_of_one_connection(&error) => None,
            Err(error) => Some(Completion::AcceptStopped { token, error: Some(error) }),
        }
    }
}

/// Errors that took one connection with them and say nothing of the next (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EAGAIN
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}
