//! The host's side of a node whose host is the binary itself: what it pulls comes in as a host's frames do.

use std::{io, sync::Arc, thread::JoinHandle};

use shardcast_engine::settings::Settings;

use super::{Door, Handle, handle::meet};
use crate::mesh::Mesh;

/// The thread at the host's end of the lanes, and the handle to all that it does.
pub(crate) struct Beside {
    handle: Handle,
    bridge: Option<JoinHandle<()>>,
}

impl Beside {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(mesh: Mesh, doors: Vec<Arc<Door>>, settings: Arc<Settings>) -> io::Result<Self> {
        let (handle, bridge) = meet(mesh, doors, settings);
        let bridge = std::thread::Builder::new().name("host".into()).spawn(move || bridge.run())?;
        Ok(Beside { handle, bridge: Some(bridge) })
    }

    /// What publishes, and hears what happens.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The operator changed something.
    pub fn set_settings(&self, settings: Arc<Settings>) {
        self.handle.0.set_settings(settings);
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.handle.0.set_stopping();
        self.handle.0.inbox.stop();
        if let Some(bridge) = self.bridge.take() {
            // What it wakes is caught there; a panic of its own would be a bug, and costs nobody anything now.
            let _ = bridge.join();
        }
    }
}
