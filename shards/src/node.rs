//! A running node: N shards on N cores, and a handle to them.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use shardcast_engine::{
    hub::Notice, media::StreamName, message::CoreId, message::owner_of, protocol::Protocol,
    settings::Settings,
};
use shardcast_io::{
    lane::{Doorbell, Sender, lane},
    tcp::{self, SocketOptions},
};

use crate::{
    mesh::Mesh,
    shard::{Order, Shard, ShardParts, ShardReport},
};

/// Orders that may wait for a shard. One more is refused: something asks faster than a shard answers.
const ORDERS_MAX: usize = 64;
/// Bytes that a viewer's socket may hold unsent. More would hide from the hub that the viewer lags.
const UNSENT_BYTES_MAX: u32 = 512 << 10;

/// What a node is started with.
pub struct NodeOptions {
    /// Shards, at least 1, each with a thread pinned to its core.
    pub shards: u16,
    /// The doors and where they listen.
    pub doors: Vec<(Protocol, SocketAddr)>,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// Takes log lines. Called on the shards' threads; must not block.
    pub notices: Arc<dyn Fn(CoreId, Notice) + Send + Sync>,
    /// A built-in publisher: its stream, and how its conversation is opened.
    pub demo: Option<(StreamName, Protocol)>,
}

/// A running node. Dropping it stops the shards at once; [`Node::drain`] lets them finish.
pub struct Node {
    handle: NodeHandle,
    threads: Vec<glommio::ExecutorJoinHandle<io::Result<()>>>,
}

/// Reaches the shards of a running node from any thread.
#[derive(Clone)]
pub struct NodeHandle {
    shards: Arc<Vec<ShardLink>>,
}

struct ShardLink {
    orders: Mutex<Sender<Order>>,
    bell: Arc<Doorbell>,
}

impl Node {
    /// Opens the doors and starts the shards. When this returns, every door accepts.
    ///
    /// # Errors
    /// An address that is in use or may not be used, or a core that could not be started; the text says which.
    pub fn start(options: NodeOptions) -> io::Result<Node> {
        assert!(options.shards > 0, "a node has at least one shard");
        for (protocol, address) in &options.doors {
            tcp::ensure_free(*address).map_err(|error| about(&format!("{} door", protocol.name), &error))?;
        }
        let cores = (0..options.shards).map(|core| Some(usize::from(core)));
        let socket_options =
            SocketOptions { notsent_bytes: Some(UNSENT_BYTES_MAX), ..SocketOptions::default() };
        let mut links = Vec::new();
        let mut threads = Vec::new();
        let mut ready = Vec::new();
        for (mesh, core) in Mesh::new(options.shards).into_iter().zip(cores) {
            let (sender, orders) = lane(ORDERS_MAX);
            links.push(ShardLink { orders: Mutex::new(sender), bell: mesh.bell().clone() });
            let mut doors = Vec::new();
            for (protocol, address) in &options.doors {
                let listener = tcp::bind_with(*address, &socket_options)
                    .map_err(|error| about(&format!("{} door {address}", protocol.name), &error))?;
                doors.push((*protocol, listener));
            }
            let notices = options.notices.clone();
            let id = mesh.core();
            let parts = ShardParts {
                mesh,
                doors,
                orders,
                settings: options.settings.clone(),
                notices: Box::new(move |notice| notices(id, notice)),
                cores: options.shards,
            };
            let (started, is_started) = std::sync::mpsc::channel();
            ready.push(is_started);
            let thread = glommio::LocalExecutorBuilder::new(placement(core))
                .name(&format!("shard-{}", id.0))
                // glommio registers this three times against RLIMIT_MEMLOCK; nothing on the hot path uses it.
                .io_memory(64 << 10)
                .ring_depth(128)
                .spawn(move || async move {
                    let _guard = EndsTheProcess;
                    let shard = Shard::new(parts)?;
                    // Whoever waits may have given up; then the node is being dropped.
                    let _ = started.send(());
                    shard.run().await
                })
                .map_err(|error| io::Error::other(format!("shard {}: {error}", id.0)))?;
            threads.push(thread);
        }
        let node = Node { handle: NodeHandle { shards: Arc::new(links) }, threads };
        if ready.into_iter().any(|shard| shard.recv().is_err()) {
            // The thread has ended already; its own error says more.
            node.handle.stop();
            return Err(node.join().err().unwrap_or_else(|| io::Error::other("a shard did not start")));
        }
        if let Some((name, protocol)) = options.demo {
            node.handle.order(owner_of(&name, options.shards), Order::Host(protocol));
        }
        Ok(node)
    }

    /// Reaches the shards from other threads.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// The first fault of a shard.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended =
                thread.join().map_err(|error| io::Error::other(error.to_string())).and_then(|ended| ended);
            result = result.and(ended);
        }
        result
    }
}

impl NodeHandle {
    /// Shards of the node.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Asks a shard how it is; `answer` is called on the shard's thread and must not block. False when the shard has too
    /// many orders to take another.
    pub fn report(&self, core: CoreId, answer: impl FnOnce(ShardReport) + Send + 'static) -> bool {
        self.order(core, Order::Report(Box::new(answer)))
    }

    /// Tells every shard what the operator has changed.
    pub fn set_settings(&self, settings: &Arc<Settings>) {
        self.order_all(|| Order::Settings(settings.clone()));
    }

    /// Stop accepting, tell the peers, close the recordings, end. [`Node::join`] waits for it.
    pub fn drain(&self) {
        self.order_all(|| Order::Drain);
    }

    /// End now, whatever is under way.
    pub fn stop(&self) {
        self.order_all(|| Order::Stop);
    }

    fn order_all(&self, order: impl Fn() -> Order) {
        for core in 0..self.shards.len() {
            let core = CoreId(u16::try_from(core).expect("a node has at most 65,536 shards"));
            self.order(core, order());
        }
    }

    fn order(&self, core: CoreId, order: Order) -> bool {
        let Some(link) = self.shards.get(usize::from(core.0)) else { return false };
        let taken = link.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order).is_ok();
        link.bell.ring();
        taken
    }
}

/// A shard that panics takes the process with it: its streams are gone, its recordings are whole, and a supervisor starts
/// anew. Limping on with a core missing would be worse.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(1);
        }
    }
}

fn placement(core: Option<usize>) -> glommio::Placement {
    core.map_or(glommio::Placement::Unbound, glommio::Placement::Fixed)
}

fn about(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
