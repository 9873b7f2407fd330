//! The SRT door by the system's libsrt, for those who need what ours does not speak: packet filters, groups of links.
//!
//! One thread speaks with the library, by its epoll. It meets the shards as a host does: each connection is a session in a shard
//! (`crossing`), behind a lane of bytes. What a caller wants is read and asked for before its handshake is answered (`desk`).

mod crossing;
mod desk;
mod link;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use shardcast_io::{
    libsrt::{Epoll, Listener, Number, Socket},
    udp,
};

use self::{
    desk::{DOOR, Desk, Waiting},
    link::{Link, Turn},
};
use crate::{
    control::log::{Log, LogLine},
    host::Handle,
};

/// How often all connections get their turn: libsrt's epoll hears of nothing but libsrt, and looks no more often than this itself.
const TICK: Duration = Duration::from_millis(10);
/// How long it sleeps while nobody is there.
const IDLE: Duration = Duration::from_millis(100);
/// How often connections are counted, and callers looked after that came to nothing.
const COUNT: Duration = Duration::from_secs(1);
/// Sockets that the epoll tells of at a time.
const EVENTS: usize = 256;

/// The door. Dropping it ends all that came by it.
pub struct Libsrt {
    desk: Arc<Desk>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Libsrt {
    /// Opens the door.
    ///
    /// # Errors
    /// The address is taken, libsrt cannot begin, or no thread could be started.
    pub fn open(address: SocketAddr, node: &Handle, log: &Log) -> io::Result<Libsrt> {
        udp::ensure_free(address)?;
        let desk = Arc::new(Desk::new(node.clone(), log.clone()));
        let judge = desk.clone();
        let epoll = Epoll::new(EVENTS)?;
        let listener = Listener::open(address, &epoll, move |caller| judge.judge(caller))?;
        let speaks =
            if listener.takes_groups() { "packet filters, groups" } else { "packet filters, no groups" };
        let line = LogLine::info("served by libsrt").detail(speaks.to_owned());
        log.write(LogLine { protocol: Some(DOOR), ..line });
        let stop = Arc::new(AtomicBool::new(false));
        let bridge = Bridge {
            desk: desk.clone(),
            listener: Some(listener),
            epoll,
            links: BTreeMap::new(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("libsrt".into()).spawn(move || bridge.run())?;
        Ok(Libsrt { desk, stop, thread: Some(thread) })
    }

    /// Takes no new callers. Those that are there go on for as long as the shards want them.
    pub fn drain(&self) {
        self.desk.drain();
    }
}

impl Drop for Libsrt {
    fn drop(&mut self) {
        self.desk.drain();
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of its own would be a bug, and costs nobody anything now.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Bridge {
    desk: Arc<Desk>,
    /// `None` once nobody is let in any more.
    listener: Option<Listener>,
    epoll: Epoll,
    links: BTreeMap<Number, Link>,
    stop: Arc<AtomicBool>,
}

impl Bridge {
    fn run(mut self) {
        let (mut next_turn, mut next_count) = (Instant::now(), Instant::now());
        while !self.stop.load(Ordering::Acquire) {
            let patience = if self.links.is_empty() { IDLE } else { TICK };
            let ready: Vec<Number> = self.epoll.wait(patience).collect();
            let now = Instant::now();
            if self.desk.is_draining() {
                self.listener = None;
            }
            ready.into_iter().for_each(|number| self.ready(number, now));
            if next_turn <= now {
                next_turn = now + TICK;
                let epoll = &self.epoll;
                self.links.retain(|_, link| link.turn(epoll, now) == Turn::GoesOn);
                self.desk.check_links(|group| self.links.get(&group).map(Link::wish));
            }
            if next_count <= now {
                next_count = now + COUNT;
                self.links.values().for_each(Link::count);
                self.desk.sweep();
            }
        }
    }

    fn ready(&mut self, number: Number, now: Instant) {
        if let Some(listener) = self.listener.as_ref().filter(|door| door.socket().number() == number) {
            let callers: Vec<Socket> =
                std::iter::from_fn(|| listener.accept()).map(|(socket, _)| socket).collect();
            callers.into_iter().for_each(|socket| self.welcome(socket, now));
            return;
        }
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.ready(&self.epoll, now) == Turn::Over {
            self.links.remove(&number);
        }
    }

    /// A connection stands. One that nobody knows is closed.
    fn welcome(&mut self, socket: Socket, now: Instant) {
        let Some(waiting) = self.desk.take(socket.number()) else { return };
        let Waiting { peer, wish, entered, seat, .. } = waiting;
        let entered = entered.unwrap_or_else(|| self.desk.enter(&wish, peer, None));
        let number = socket.number();
        let mut link = Link::new(socket, wish, entered, seat);
        link.count();
        if link.turn(&self.epoll, now) == Turn::GoesOn {
            self.links.insert(number, link);
        }
    }
}
