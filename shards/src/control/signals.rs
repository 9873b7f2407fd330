//! Signals, as what they ask for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// SIGTERM or SIGINT: end in good order.
    Drain,
    /// A second one: end at once.
    Stop,
    /// SIGHUP: read the config again.
    Reload,
}

/// The signals of this process. They no longer do what they do by default once this is open.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    draining: bool,
}

impl Signals {
    /// Listens to them.
    ///
    /// # Errors
    /// The system has no room for the handlers.
    pub fn open() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            draining: false,
        })
    }

    /// The next one. May be dropped while it waits and called again; no signal is lost.
    pub async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.terminate.recv() => self.end(),
            _ = self.interrupt.recv() => self.end(),
            _ = self.hang_up.recv() => Command::Reload,
        }
    }

    fn end(&mut self) -> Command {
        if std::mem::replace(&mut self.draining, true) { Command::Stop } else { Command::Drain }
    }
}
