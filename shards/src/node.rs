//! Starting a node: N shards on N cores, joined by their lanes.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use shardcast_engine::{
    hub::Notice,
    media::StreamName,
    message::{CoreId, owner_of},
    protocol::{Protocol, Transport},
    record::Fault,
    session::PortOffer,
    settings::Settings,
    udp::Intake,
};
use shardcast_io::{
    cpu, probe,
    tcp::{self, SocketOptions},
    udp,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    chance,
    control::link::{Ended, Request, ShardThread, Started, link},
    disk::{Recordings, fault_of},
    host::{Door, Guests},
    mesh::Mesh,
    shard::{Listener, Shard, ShardParts},
    tls::Secured,
};

/// Bytes that a viewer's socket may hold unsent. More would hide from the hub that the viewer lags.
pub(crate) const UNSENT_BYTES_MAX: u32 = 512 << 10;
/// Shards at most. Lanes go from every shard to every other, so their memory grows with the square of this.
pub const SHARDS_MAX: u16 = 256;
/// Descriptors that a shard opens before its first connection, beside a listener for each door: the executor's three rings
/// and its eventfd, the ring of sockets and that of files with theirs, and some to breathe.
const SHARD_DESCRIPTORS: u64 = 16;

/// What a node is started with.
pub struct NodeOptions {
    /// Shards, at least 1, each with a thread pinned to its core.
    pub shards: u16,
    /// The doors and where they listen.
    pub doors: Vec<(Protocol, SocketAddr)>,
    /// Which of them speak TLS, if any do.
    pub secured: Option<Secured>,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// Where recordings go, if there is anywhere to put them.
    pub recordings: Option<Recordings>,
    /// Takes log lines. Called on the shards' threads; must not block.
    pub notices: Arc<dyn Fn(CoreId, Notice) + Send + Sync>,
    /// Streams that are sent to this node unasked, and where to.
    pub intakes: Vec<(StreamName, Intake)>,
    /// Where media goes beside connections: the even port of the first shard, if there are such ports. Each shard has two of its own, in a row.
    pub media_ports: Option<SocketAddr>,
    /// A built-in publisher: its stream, and how its conversation is opened.
    pub demo: Option<(StreamName, Protocol)>,
    /// Another program lives with the node, and has frames for it or wants some.
    pub hosted: bool,
}

/// Opens the doors and starts the shards, each on a thread of its own. When this returns, every door accepts. What comes
/// back reaches the shards, and tells when each has ended. When it fails, nothing is left of it: no thread, and no door.
///
/// # Errors
/// More shards than [`SHARDS_MAX`], an address that is in use or may not be used, a directory of recordings that cannot be
/// made, too few descriptors, or a shard that could not be started; the text says which.
pub fn start(options: NodeOptions) -> io::Result<Started> {
    assert!(options.shards > 0, "a node has at least one shard");
    if options.shards > SHARDS_MAX {
        let why = format!("a node has at most {SHARDS_MAX} shards, and {} were asked for", options.shards);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    ensure_free(&options.doors)?;
    ensure_descriptors(&options)?;
    let socket_options = SocketOptions { notsent_bytes: Some(UNSENT_BYTES_MAX), ..SocketOptions::default() };
    let demo_owner = options.demo.as_ref().map(|(name, _)| owner_of(name, options.shards));
    let mut links = Vec::new();
    // To the shards the host is one more core, which owns no stream.
    let mut meshes = Mesh::new(options.shards + u16::from(options.hosted));
    let host = if options.hosted { meshes.pop() } else { None };
    let mut host_doors = Vec::new();
    // All that may be refused comes before the first thread.
    let mut shards = Vec::new();
    for (mesh, core) in meshes.into_iter().zip(cpu::choose(usize::from(options.shards))) {
        let host_door = options.hosted.then(|| Arc::new(Door::new(mesh.bell().clone())));
        host_doors.extend(host_door.clone());
        let (link, port) = link(mesh.bell().clone());
        links.push(link);
        let mut doors = Vec::new();
        for (protocol, address) in &options.doors {
            let listener = match protocol.transport {
                Transport::Tcp => tcp::bind_with(*address, &socket_options).map(Listener::Tcp),
                Transport::Udp => udp::bind(*address).map(Listener::Udp),
                // Nobody shares them: the address says which core it is.
                Transport::Signalled => {
                    udp::bind_feed(of_shard(*address, mesh.core().0), None, None).map(Listener::Udp)
                }
            };
            let listener =
                listener.map_err(|error| about(&format!("{} door {address}", protocol.name), &error))?;
            doors.push((*protocol, listener));
        }
        let id = mesh.core();
        let mut intakes = Vec::new();
        for (name, intake) in options.intakes.iter().filter(|(name, _)| owner_of(name, options.shards) == id)
        {
            let socket = udp::bind_feed(intake.address, intake.interface.as_deref(), intake.source);
            let socket = socket
                .map_err(|error| about(&format!("what is sent to {} as {name}", intake.address), &error))?;
            intakes.push((name.clone(), intake.clone(), socket));
        }
        let media_ports =
            options.media_ports.map(|first| bind_ports(first, id.0, options.shards)).transpose()?;
        let notices = options.notices.clone();
        let parts = ShardParts {
            mesh,
            doors,
            port,
            secured: options.secured.clone(),
            settings: chance::with_secret(options.settings.clone()),
            recordings: options.recordings.clone(),
            notices: Box::new(move |notice| notices(id, notice)),
            cores: options.shards,
            guests: host_door.map(Guests::new),
            demo: options.demo.as_ref().filter(|_| demo_owner == Some(id)).map(|(_, protocol)| *protocol),
            intakes,
            media_ports,
        };
        shards.push((parts, core));
    }
    if let Some(recordings) = &options.recordings {
        make_directory(recordings, &options.settings)?;
    }
    let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
    let mut threads = Vec::new();
    if let Err(error) = launch(shards, &ended, &mut threads) {
        // Those that run already end, and are waited for: the program may live on, and try again.
        for link in &mut links {
            link.send(Request::Drain);
        }
        threads.into_iter().for_each(|thread| drop(thread.join()));
        return Err(error);
    }
    Ok(Started { links, ended: ends, threads, host: host.map(|mesh| (mesh, host_doors)) })
}

/// The two ports of a shard for media beside connections, and what its sessions are told of them. Nobody shares them: what comes for one
/// shard would else come to another.
fn bind_ports(first: SocketAddr, shard: u16, shards: u16) -> io::Result<(PortOffer, [UdpSocket; 2])> {
    let owner = |name: &StreamName, shards| owner_of(name, shards).0;
    let offer = PortOffer { first: first.port(), shard, shards, owner };
    let open = |port| {
        let address = SocketAddr::new(first.ip(), port);
        udp::bind_feed(address, None, None).map_err(|error| about("media beside connections of RTSP", &error))
    };
    Ok((offer, [open(offer.here())?, open(offer.here().saturating_add(1))?]))
}

/// The address of a shard where each has a port of its own, of which the first has this one.
fn of_shard(first: SocketAddr, shard: u16) -> SocketAddr {
    let port = if first.port() == 0 { 0 } else { first.port().saturating_add(shard) };
    SocketAddr::new(first.ip(), port)
}

/// Looks whether every door can have its address for itself.
fn ensure_free(doors: &[(Protocol, SocketAddr)]) -> io::Result<()> {
    for (place, (protocol, address)) in doors.iter().enumerate() {
        let door = format!("{} door", protocol.name);
        // The kernel would let both listen there, and give each some of the peers.
        let shares = |(other, there): &&(Protocol, SocketAddr)| {
            other.transport == protocol.transport && meet(*there, *address)
        };
        if let Some((other, _)) = doors.iter().take(place).find(shares) {
            let why = format!("{door}: {address} is the {} door's already", other.name);
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        let free = match protocol.transport {
            Transport::Tcp => tcp::ensure_free(*address),
            Transport::Udp | Transport::Signalled => udp::ensure_free(*address),
        };
        free.map_err(|error| match error.kind() {
            // It names the address itself.
            io::ErrorKind::AddrInUse => about(&door, &error),
            _ => about(&format!("{door} {address}"), &error),
        })?;
    }
    Ok(())
}

/// Looks whether all shards can open what they need: an executor that cannot panics.
fn ensure_descriptors(options: &NodeOptions) -> io::Result<()> {
    let each = SHARD_DESCRIPTORS + options.doors.len() as u64;
    // An intake has a socket, and so has its session.
    let each = each + 2 * u64::from(options.media_ports.is_some());
    let needed = u64::from(options.shards) * each + 2 * options.intakes.len() as u64;
    let left = probe::nofile_left()?;
    if left >= needed {
        return Ok(());
    }
    let shards = options.shards;
    let why =
        format!("{shards} shards open {needed} descriptors at their start, and {left} are left (ulimit -n)");
    Err(io::Error::new(io::ErrorKind::QuotaExceeded, why))
}

/// Whether two listeners of one transport meet: they have a port in common and an address, or one of them has all of the
/// other's. Port 0 is another one each time.
pub(crate) fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` has the addresses of IPv4, too.
    let has_all_of = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let (here, there) = (one.ip(), other.ip());
    one.port() == other.port()
        && one.port() != 0
        && (here == there || has_all_of(here, there) || has_all_of(there, here))
}

/// Makes the directory of recordings if there will be any, so that one that cannot be made is told now and not with the first
/// stream. A full disk is no reason not to start: the recordings wait for space, and the streams go on meanwhile.
fn make_directory(recordings: &Recordings, settings: &Settings) -> io::Result<()> {
    if !settings.default.record && !settings.apps.values().any(|app| app.record) {
        return Ok(());
    }
    match fs::create_dir_all(&recordings.directory) {
        Err(error) if fault_of(&error) != Fault::Full => {
            Err(about(&format!("directory of recordings {}", recordings.directory.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Starts each shard on a thread of its own, which is put into `threads`, and waits until all are up.
fn launch(
    shards: Vec<(ShardParts, Option<usize>)>,
    ended: &UnboundedSender<Ended>,
    threads: &mut Vec<ShardThread>,
) -> io::Result<()> {
    let mut ready = Vec::new();
    for (parts, core) in shards {
        let id = parts.mesh.core();
        let (started, is_started) = std::sync::mpsc::channel();
        ready.push(is_started);
        let ended = ended.clone();
        let thread = std::thread::Builder::new().name(format!("shard-{}", id.0));
        let spawned = thread.spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(parts, core, started)));
            let result =
                result.unwrap_or_else(|_| Err(io::Error::other("a bug in this server: the shard panicked")));
            let result = result.map_err(|error| error.to_string());
            // Whoever listens may have gone; then the process is ending, or waits for the thread.
            let _ = ended.send(Ended { core: id, result: result.clone() });
            result
        });
        threads.push(spawned.map_err(|error| about(&format!("no thread for shard {}", id.0), &error))?);
    }
    for (shard, started) in ready.into_iter().enumerate() {
        match started.recv() {
            Ok(result) => result.map_err(|error| about(&format!("shard {shard}"), &error))?,
            Err(_) => return Err(io::Error::other(format!("shard {shard} did not start"))),
        }
    }
    Ok(())
}

/// Runs a shard on the calling thread until it ends.
fn run(
    parts: ShardParts,
    core: Option<usize>,
    started: std::sync::mpsc::Sender<io::Result<()>>,
) -> io::Result<()> {
    let placement = core.map_or(glommio::Placement::Unbound, glommio::Placement::Fixed);
    let executor = glommio::LocalExecutorBuilder::new(placement)
        // glommio registers this three times against RLIMIT_MEMLOCK; nothing on the hot path uses it.
        .io_memory(64 << 10)
        .ring_depth(128)
        .make()
        .map_err(|error| io::Error::other(error.to_string()));
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => {
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    executor.run(async move {
        match Shard::new(parts) {
            Ok(shard) => {
                let _ = started.send(Ok(()));
                shard.run().await
            }
            Err(error) => {
                let _ = started.send(Err(error));
                Ok(())
            }
        }
    })
}

fn about(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
