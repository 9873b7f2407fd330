//! How a node is started: how many shards, which doors and where, what the operator chose.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use shardcast_engine::{hub::Notice, message::CoreId, protocol::Protocol, settings::Settings};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Handle, Node, handle::meet};
#[cfg(feature = "server")]
use crate::config::{check::Host, parse::Document};
use crate::{
    control::link::Ended,
    disk::Recordings,
    node::{self, NodeOptions},
};

/// How a node is started; see [`Node::builder`].
///
/// ```
/// # use shardcast_engine::{limits::StreamLimits, settings::{AppSettings, Settings}};
/// use std::time::Duration;
/// use shardcast_shards::host::{Node, NodeBuilder};
///
/// /// What all nodes of this program have.
/// fn usual(builder: NodeBuilder) -> NodeBuilder {
///     let limits = StreamLimits { flush: Duration::ZERO, ..StreamLimits::default() };
///     let default = AppSettings { limits, ..AppSettings::default() };
///     builder
///         .settings(Settings { default, ..Settings::default() })
///         .on_notice(|core, notice| eprintln!("shard {}: {}", core.0, notice.text))
/// }
///
/// let node = usual(Node::builder()).shards(2).start()?;
/// node.stop()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct NodeBuilder {
    options: NodeOptions,
    /// Protocols whose doors are placed at the start.
    rows: Vec<Protocol>,
    #[cfg(feature = "server")]
    config: Option<Document>,
    /// The settings are the program's own, and not those of the config.
    #[cfg(feature = "server")]
    own_settings: bool,
}

impl NodeBuilder {
    pub(super) fn new() -> Self {
        NodeBuilder {
            options: NodeOptions {
                shards: 1,
                doors: Vec::new(),
                secured: None,
                settings: Arc::new(Settings::default()),
                recordings: None,
                notices: Arc::new(|_, _| {}),
                intakes: Vec::new(),
                media_ports: None,
                demo: None,
                hosted: true,
            },
            rows: Vec::new(),
            #[cfg(feature = "server")]
            config: None,
            #[cfg(feature = "server")]
            own_settings: false,
        }
    }

    /// How many shards: threads, each pinned to a core. At least 1, and [`SHARDS_MAX`](node::SHARDS_MAX) at most.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.options.shards = shards;
        self
    }

    /// Opens a door at `address`, whatever a config says: a row of [`built_in`](shardcast_engine::protocol::built_in), or one
    /// of your own.
    ///
    /// ```no_run
    /// use shardcast_engine::protocol::{HTTP, RTMP};
    /// use shardcast_shards::host::Node;
    ///
    /// let node = Node::builder()
    ///     .door(RTMP, "127.0.0.1:1935".parse()?)
    ///     .door(HTTP, "127.0.0.1:8080".parse()?)
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn door(mut self, protocol: Protocol, address: SocketAddr) -> Self {
        self.options.doors.push((protocol, address));
        self
    }

    /// Opens a door where the operator wants it: at the port and address that the table `[doors.NAME]` of the
    /// [`config`](Self::config) gives. What it does not give is the row's [own port](Protocol::port), and the address of all
    /// doors; without a config, loopback. Port 0 keeps the door shut.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.rows.push(protocol);
        self
    }

    /// Starts the node as a config says: shards, the doors of RTMP and HTTP and of the [protocols](Self::protocol) that this
    /// program brings along, limits, keys, recordings. What the builder is told after this beats it. What the config says of
    /// the control door, of log lines and of `drain_timeout` is about the binary `shardcast` alone.
    ///
    /// Whether the config is legal is seen by [`start`](Self::start). One that has its own [`settings`](Self::settings) after
    /// this has its own authenticator in them, and an address that others reach needs no keys.
    ///
    /// ```
    /// # use std::{error::Error, fs};
    /// # use shardcast_engine::protocol::{Protocol, RTMP};
    /// # use shardcast_shards::{config::parse::Document, host::Node};
    /// # fn main() -> Result<(), Box<dyn Error>> {
    /// # const RADIO: Protocol = Protocol { name: "radio", port: 8100, ..RTMP };
    /// # let file = std::env::temp_dir().join(format!("shardcast-doc-{}.toml", std::process::id()));
    /// # fs::write(&file, "rtmp.port = 0\nhttp.port = 0\ndoors.radio.port = 0\n")?;
    /// // In the file: [doors.radio], port = 8200
    /// let config = Document::load(Some(&file))?;
    /// let node = Node::builder().protocol(RADIO).config(config).start()?;
    /// # node.stop()?;
    /// # fs::remove_file(file)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "server")]
    #[must_use]
    pub fn config(mut self, config: impl Into<Document>) -> Self {
        let document = config.into();
        self.options.shards = u16::try_from(document.config.shard_count()).unwrap_or(u16::MAX);
        self.options.settings = Arc::new(document.config.settings());
        self.options.recordings = Some(document.config.recordings());
        self.options.intakes = document.config.intakes();
        self.options.media_ports = document.config.media_ports();
        self.config = Some(document);
        self.own_settings = false;
        self
    }

    /// Lets media of RTSP go by UDP, beside its connections: from the port of `first`, which is even, on two ports for each shard.
    ///
    /// ```
    /// use shardcast_shards::host::Node;
    ///
    /// let node = Node::builder().media_ports(([127, 0, 0, 1], 8000).into());
    /// # drop(node);
    /// ```
    #[must_use]
    pub fn media_ports(mut self, first: SocketAddr) -> Self {
        self.options.media_ports = Some(first);
        self
    }

    /// Limits, access, and what is recorded.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.options.settings = Arc::new(settings);
        #[cfg(feature = "server")]
        {
            self.own_settings = true;
        }
        self
    }

    /// Where recordings go, of the apps that the settings record.
    ///
    /// ```
    /// use shardcast_engine::settings::{AppSettings, Settings};
    /// use shardcast_shards::{disk::{Recordings, Sync}, host::Node};
    ///
    /// # let directory = std::env::temp_dir().join(format!("shardcast-doc-recordings-{}", std::process::id()));
    /// # let made = directory.clone();
    /// let default = AppSettings { record: true, ..AppSettings::default() };
    /// let node = Node::builder()
    ///     .settings(Settings { default, ..Settings::default() })
    ///     .recordings(Recordings { directory, sync: Sync::Segment })
    ///     .start()?;
    /// # node.stop()?;
    /// # std::fs::remove_dir(made)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn recordings(mut self, recordings: Recordings) -> Self {
        self.options.recordings = Some(recordings);
        self
    }

    /// Takes the lines for a log: one per connection's end that has a cause, and what an operator should know. Called on
    /// the shards' threads, so it must not block.
    #[must_use]
    pub fn on_notice(mut self, notices: impl Fn(CoreId, Notice) + Send + Sync + 'static) -> Self {
        self.options.notices = Arc::new(notices);
        self
    }

    /// Starts the node. When this returns, every door accepts. When it fails, nothing is left of it: no thread, and no
    /// address that is taken.
    ///
    /// # Errors
    /// The config breaks a rule (file, line and reason of each, a line for each), no shard was asked for or more than
    /// [`SHARDS_MAX`](node::SHARDS_MAX), an address is in use or may not be used, the directory of recordings cannot be made,
    /// or a shard could not be started; the text says which.
    pub fn start(mut self) -> io::Result<Node> {
        self.place_doors()?;
        if self.options.shards == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a node has at least one shard"));
        }
        let settings = self.options.settings.clone();
        let mut started = node::start(self.options)?;
        let (mesh, doors) = started.host.take().expect("the options say that the node has a host");
        let (handle, bridge) = meet(mesh, doors, settings);
        let (links, shards) = (Mutex::new(started.links), started.threads);
        let told = handle.clone();
        let checks = Mutex::default();
        let mut node = Node { handle, links, shards, bridge: None, ends: None, checks };
        // When this fails the node is dropped, and its shards end.
        node.bridge = Some(std::thread::Builder::new().name("host".into()).spawn(move || bridge.run())?);
        let ended = started.ended;
        node.ends =
            Some(std::thread::Builder::new().name("shard-ends".into()).spawn(move || watch(ended, &told))?);
        Ok(node)
    }

    /// Adds the doors that the config opens, and those of the program's own protocols.
    fn place_doors(&mut self) -> io::Result<()> {
        #[cfg(feature = "server")]
        if let Some(document) = &self.config {
            let host = Host { rows: &self.rows, authenticates: self.own_settings };
            let faults: Vec<String> = document.check_for(host).iter().map(ToString::to_string).collect();
            if !faults.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, faults.join("\n")));
            }
            self.options.secured = document.config.secured().map_err(io::Error::other)?;
            self.options.doors.extend(document.config.open_doors(&self.rows));
            return Ok(());
        }
        let open = self.rows.iter().filter(|row| row.port != 0);
        self.options.doors.extend(open.map(|row| (*row, (Ipv4Addr::LOCALHOST, row.port).into())));
        Ok(())
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doors = self.options.doors.len() + self.rows.len();
        write!(f, "NodeBuilder({} shards, {doors} doors)", self.options.shards)
    }
}

/// Waits for the shards' ends, and tells of one that comes before the node's.
fn watch(mut ended: UnboundedReceiver<Ended>, node: &Handle) {
    while let Some(Ended { core, result }) = ended.blocking_recv() {
        if let Err(why) = result {
            node.alarm(None, &format!("shard {} has failed: {why}", core.0));
            node.0.lose(core);
        }
    }
}
