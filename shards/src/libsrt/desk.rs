//! Where callers say what they want, on a thread of libsrt, before their handshake is answered.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use shardcast_engine::{session::Refusal, settings::Settings, srt};
use shardcast_io::libsrt::{Caller, Number, close_link, group_of, is_group, is_there};

use super::crossing::{Between, Outside, Standing, crossing};
use crate::{
    control::log::{Log, LogLine},
    host::{Handle, Passage},
};

/// The door, in log lines and for the authenticator.
pub const DOOR: &str = "srt";
/// How long the answer to one caller is waited for, so that a refusal can be told with its reason.
const PATIENCE: Duration = Duration::from_millis(20);
/// Of all time, one part in so many may go by with such waits: meanwhile libsrt takes nothing from the door's socket.
const WAITS_SHARE: u32 = 20;
/// A caller whose socket is gone so long after it was let in has failed in the rest of its handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(1);

/// The desk.
pub struct Desk {
    node: Handle,
    log: Log,
    draining: AtomicBool,
    room: Mutex<Room>,
}

struct Room {
    /// Who has been let in, and is not accepted yet.
    waiting: BTreeMap<Number, Waiting>,
    /// Callers and connections, by address.
    addresses: HashMap<IpAddr, usize>,
    seats: usize,
    purse: Purse,
}

/// Somebody who has been let in.
pub struct Waiting {
    pub peer: SocketAddr,
    pub wish: srt::Wish,
    /// It is in a shard already. Who needs a passphrase is not before it has shown that it knows it, nor is a link of a group.
    pub entered: Option<Entered>,
    pub seat: Seat,
    since: Instant,
    /// It is a link of a group.
    in_group: bool,
    /// It has joined one that stands.
    joined: bool,
}

/// The end outside of a shard of somebody who is inside.
pub struct Entered {
    pub passage: Passage,
    pub outside: Outside,
    pub between: Arc<Between>,
}

/// One of the seats that there are for the callers of this door, and of an address. Dropping it makes room.
pub struct Seat {
    desk: Arc<Desk>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut room = self.desk.room();
        room.seats -= 1;
        if let Some(count) = room.addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                room.addresses.remove(&self.address);
            }
        }
    }
}

/// Time that may be spent with waits.
struct Purse {
    left: Duration,
    at: Instant,
}

impl Purse {
    fn new(now: Instant) -> Purse {
        Purse { left: PATIENCE, at: now }
    }
    /// What is in it now.
    fn look(&mut self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at) / WAITS_SHARE;
        self.left = (self.left + since).min(PATIENCE);
        self.at = now;
        self.left
    }
    /// So much was spent, up to now.
    fn spend(&mut self, time: Duration, now: Instant) {
        self.left = self.left.saturating_sub(time);
        self.at = now;
    }
}

impl Desk {
    /// Nobody has called yet.
    pub fn new(node: Handle, log: Log) -> Desk {
        let room = Room {
            waiting: BTreeMap::new(),
            addresses: HashMap::new(),
            seats: 0,
            purse: Purse::new(Instant::now()),
        };
        Desk { node, log, draining: AtomicBool::new(false), room: Mutex::new(room) }
    }

    /// From here on nobody is let in.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether it was told to.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Judges a caller: the reason why it is refused, if it is.
    ///
    /// # Errors
    /// The reason, by a number of libsrt's access control.
    pub fn judge(self: &Arc<Desk>, caller: &Caller<'_>) -> Result<(), u32> {
        if self.is_draining() {
            return Err(srt::reason_of(Refusal::ShuttingDown));
        }
        let wish = srt::Wish::read(caller.stream_id).map_err(|fault| {
            self.say(caller.peer, LogLine::warn("refused").detail(fault.why().to_owned()));
            fault.reason()
        })?;
        let settings = self.node.settings();
        let Some(seat) = self.seat(caller.peer.ip(), &settings) else {
            self.say(caller.peer, LogLine::warn("refused: too many connections"));
            return Err(srt::reason_of(Refusal::Full));
        };
        let passphrase = settings.doors.srt.passphrase_of(wish.name.as_str());
        // The config has no latency and no passphrase that libsrt would not take.
        caller.set_latency(settings.doors.srt.latency).map_err(|_| srt::reason_of(Refusal::Forbidden))?;
        if let Some(words) = passphrase {
            caller.set_passphrase(words).map_err(|_| srt::reason_of(Refusal::Forbidden))?;
        }
        let in_group = caller.in_group;
        // The second link of a group would be told that the stream is the first's.
        let at_once = passphrase.is_none() && !in_group;
        let entered = if at_once { Some(self.ask(&wish, caller.peer)?) } else { None };
        let (peer, since, joined) = (caller.peer, Instant::now(), false);
        let waiting = Waiting { peer, wish, entered, seat, since, in_group, joined };
        // One that it takes the place of is dropped when the lock is free: it has a seat to give back.
        let former = self.room().waiting.insert(caller.socket, waiting);
        drop(former);
        Ok(())
    }

    /// Lets somebody into a shard.
    pub fn enter(&self, wish: &srt::Wish, peer: SocketAddr, waits: Option<thread::Thread>) -> Entered {
        let (session, outside, between) = crossing(wish.clone(), waits);
        let publishes = wish.publish.then_some(&wish.name);
        let passage = self.node.enter_by(DOOR, peer, publishes, Box::new(session));
        Entered { passage, outside, between }
    }

    /// Lets somebody into a shard, and waits a moment for the answer: it may be a reason to refuse it.
    fn ask(&self, wish: &srt::Wish, peer: SocketAddr) -> Result<Entered, u32> {
        let began = Instant::now();
        let patience = self.room().purse.look(began);
        let entered = self.enter(wish, peer, Some(thread::current()));
        while entered.between.standing() == Standing::Asking {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        self.room().purse.spend(began.elapsed(), Instant::now());
        match entered.between.standing() {
            Standing::Refused(reason) => Err(reason),
            Standing::Asking | Standing::Granted | Standing::Over => Ok(entered),
        }
    }

    fn seat(self: &Arc<Desk>, address: IpAddr, settings: &Settings) -> Option<Seat> {
        let mut room = self.room();
        let from_there = room.addresses.get(&address).copied().unwrap_or(0);
        let doors = &settings.doors;
        if room.seats >= doors.connections || from_there >= doors.connections_per_address {
            return None;
        }
        room.seats += 1;
        *room.addresses.entry(address).or_default() += 1;
        Some(Seat { desk: self.clone(), address })
    }

    /// Whom libsrt has connected: a socket, or a group, which is known by the link that came first.
    pub fn take(&self, number: Number) -> Option<Waiting> {
        let link = if is_group(number) {
            self.links().into_iter().find(|link| group_of(*link) == Some(number))?
        } else {
            number
        };
        self.room().waiting.remove(&link)
    }

    /// Those who wait and are links of groups that nobody has seen them in.
    fn links(&self) -> Vec<Number> {
        let room = self.room();
        let links = room.waiting.iter().filter(|(_, waiting)| waiting.in_group && !waiting.joined);
        links.map(|(link, _)| *link).collect()
    }

    /// Looks after links that have joined a group without a word. `wish_of` says what the group of a number wants, if it stands: a link
    /// that says something else has no business there.
    pub fn check_links<'a>(&self, wish_of: impl Fn(Number) -> Option<&'a srt::Wish>) {
        // libsrt has locks of its own: it is not asked under ours.
        let links = self.links().into_iter();
        let found = links.filter_map(|link| Some((link, group_of(link).and_then(&wish_of)?))).collect();
        for (link, peer) in self.joined(found) {
            close_link(link);
            self.say(peer, LogLine::warn("refused: a link of a group that wants something else"));
        }
    }

    /// These links have joined groups that want this. Those of them that want something else, and who they are.
    fn joined(&self, found: Vec<(Number, &srt::Wish)>) -> Vec<(Number, SocketAddr)> {
        let mut room = self.room();
        let mut strangers = Vec::new();
        for (link, wish) in found {
            let Some(waiting) = room.waiting.get_mut(&link) else { continue };
            waiting.joined = true;
            if *wish != waiting.wish {
                strangers.push((link, waiting.peer));
            }
        }
        strangers
    }

    /// Forgets those whose handshake came to nothing.
    pub fn sweep(&self) {
        let old = |(number, waiting): (&Number, &Waiting)| {
            (waiting.since.elapsed() > HANDSHAKE_TIME).then_some(*number)
        };
        let mut lost: Vec<Number> = self.room().waiting.iter().filter_map(old).collect();
        // libsrt has locks of its own: it is not asked under ours.
        lost.retain(|number| !is_there(*number));
        let mut room = self.room();
        let lost: Vec<Waiting> = lost.iter().filter_map(|number| room.waiting.remove(number)).collect();
        // Each has a seat, which locks the room to be given back.
        drop(room);
        for waiting in lost.into_iter().filter(|waiting| !waiting.joined) {
            let line = LogLine::warn(HANDSHAKE_FAILED);
            self.say(waiting.peer, LogLine { stream: Some(waiting.wish.name.clone()), ..line });
        }
    }

    /// Writes a line about a caller.
    fn say(&self, peer: SocketAddr, line: LogLine) {
        self.log.write(LogLine { peer: Some(peer), protocol: Some(DOOR), ..line });
    }

    /// Nothing under the lock can panic half-way, so what a poisoned one holds is whole.
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that can be known of it: libsrt refuses by itself, and tells the caller alone why.
const HANDSHAKE_FAILED: &str =
    "refused by libsrt: another passphrase, one on one side alone, or something that it does not speak";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{
        config::{LogFormat, LogLevel},
        host::Node,
    };

    #[test]
    fn a_link_that_wants_something_else_than_its_group_is_found_and_seats_are_given_back() {
        let node = Node::builder().start().unwrap();
        let (log, _writer) = Log::start(LogFormat::Text, LogLevel::Error, false, io::sink()).unwrap();
        let desk = Arc::new(Desk::new(node.handle(), log));
        let settings = Settings::default();
        let wish = |text: &str| srt::Wish::read(text.as_bytes()).unwrap();
        for (link, stream_id) in [(1, "publish:live/cam"), (2, "publish:live/other"), (3, "read:live/cam")] {
            let peer = SocketAddr::from(([192, 0, 2, link as u8], 9000));
            let seat = desk.seat(peer.ip(), &settings).expect("there are seats");
            let (since, wish) = (Instant::now() - 2 * HANDSHAKE_TIME, wish(stream_id));
            let waiting = Waiting { peer, wish, entered: None, seat, since, in_group: true, joined: false };
            desk.room().waiting.insert(link, waiting);
        }
        assert_eq!((desk.links(), desk.room().seats), (vec![1, 2, 3], 3));
        let wanted = wish("publish:live/cam");
        let strangers = desk.joined(vec![(1, &wanted), (2, &wanted), (7, &wanted)]);
        assert_eq!(strangers, [(2, SocketAddr::from(([192, 0, 2, 2], 9000)))]);
        assert_eq!(desk.links(), [3]);
        // None of these is a socket of the library.
        desk.sweep();
        assert_eq!((desk.room().waiting.len(), desk.room().seats, desk.room().addresses.len()), (0, 0, 0));
        let mut tight = settings;
        tight.doors.connections_per_address = 1;
        let seat = desk.seat(IpAddr::from([192, 0, 2, 1]), &tight).expect("there is one");
        assert!(desk.seat(IpAddr::from([192, 0, 2, 1]), &tight).is_none());
        drop(seat);
        assert!(desk.seat(IpAddr::from([192, 0, 2, 1]), &tight).is_some());
    }

    #[test]
    fn waits_for_answers_take_their_share_of_the_time_and_no_more() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut purse = Purse::new(began);
        assert_eq!(purse.look(at(0)), PATIENCE);
        purse.spend(PATIENCE, at(20));
        assert_eq!(purse.look(at(20)), Duration::ZERO);
        assert_eq!(purse.look(at(120)), Duration::from_millis(5));
        assert_eq!(purse.look(at(10_000)), PATIENCE, "and is not saved up");
    }
}
