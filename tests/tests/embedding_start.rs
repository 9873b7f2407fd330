//! A node that cannot start says why, and leaves nothing behind: no thread, no door, no descriptor. Whoever tries again right
//! after can, and leaves nothing behind when it stops.
//!
//! The tests of this file take turns, for each counts the threads and descriptors of the whole process; their own threads they
//! know by how their names begin.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shardcast_engine::{
    protocol::{HTTP, Protocol, RTMP, Transport},
    settings::{AppSettings, Settings},
};
use shardcast_shards::{
    disk::{Recordings, Sync},
    host::{Node, NodeBuilder},
    node::SHARDS_MAX,
};
use shardcast_tests::clients::{Folder, server::Ports, wait_for};

/// How long threads may take to end; far longer than they do.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a thread of the test harness is called after: the first words of each test here, as far as the kernel keeps them.
const TEST: &str = "a_start_that_";
/// The same of this file.
const PROCESS: &str = "embedding_start";

/// One test at a time.
struct Turn {
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    fn take() -> Turn {
        static TURN: Mutex<()> = Mutex::new(());
        static FIRST: Once = Once::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // What a process opens once and for all belongs to no node.
        FIRST.call_once(|| Node::builder().start().and_then(Node::stop).expect("nothing stands in its way"));
        // The kernel still lists a thread for a moment after its end was waited for.
        let none = wait_for(PATIENCE, || Left::now().threads.is_empty().then_some(()));
        assert!(none.is_some(), "threads of a node that has stopped: {:?}", Left::now().threads);
        Turn { _turn: turn }
    }

    /// A start fails with these words, and leaves nothing behind.
    fn fails(&self, node: NodeBuilder, words: &str) -> io::Error {
        let before = Left::now();
        let error = node.start().expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        before.is_all_again();
        error
    }

    /// A start right after that works, and ends well.
    fn works(&self, node: NodeBuilder, doors: &[SocketAddr]) {
        let before = Left::now();
        let node = node.start().expect("nothing stands in its way");
        for door in doors {
            drop(TcpStream::connect(door).expect("the door is open"));
        }
        node.stop().expect("no shard has failed");
        before.is_all_again();
    }
}

/// What this process has: the names of its threads, but for those of tests, and what its descriptors are of.
#[derive(Debug, PartialEq)]
struct Left {
    threads: Vec<String>,
    descriptors: Vec<String>,
}

impl Left {
    fn now() -> Left {
        let tasks = fs::read_dir("/proc/self/task").expect("it is so on Linux").flatten();
        // One that has ended meanwhile is none.
        let mut threads: Vec<String> =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
        // A thread of a test is called after its process until it has its own name.
        threads.retain(|name| !name.starts_with(TEST) && !name.starts_with(PROCESS));
        threads.sort();
        let opened = fs::read_dir("/proc/self/fd").expect("it is so on Linux").flatten();
        let mut descriptors: Vec<String> = opened
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|what| what.display().to_string())
            // That of this look, and what glommio 0.9 keeps of every executor that has ended, one with nothing to do included.
            .filter(|what| !what.ends_with("/fd") && what != "anon_inode:[eventfd]")
            .collect();
        descriptors.sort();
        Left { threads, descriptors }
    }

    /// Nothing is left of a node, and nothing that was there before has gone.
    fn is_all_again(&self) {
        let gone = wait_for(PATIENCE, || (Left::now() == *self).then_some(()));
        assert!(gone.is_some(), "before: {self:?}\nnow: {:?}", Left::now());
    }
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A row like RTMP's that is called otherwise.
const OWN: Protocol = Protocol { name: "own", ..RTMP };
const CALLS: Protocol = Protocol { name: "calls", transport: Transport::Udp, ..RTMP };

/// Two doors over TCP and one over UDP, on two shards.
fn node(ports: Ports) -> NodeBuilder {
    Node::builder()
        .shards(2)
        .door(OWN, here(ports.rtmp))
        .door(HTTP, here(ports.http))
        .door(CALLS, here(ports.control))
}

#[test]
fn a_start_that_finds_a_port_of_its_second_or_third_door_taken_names_it() {
    let (turn, ports) = (Turn::take(), Ports::free());
    let taken = TcpListener::bind(here(ports.http)).unwrap();
    let words = format!("http door: another program already listens on {}", here(ports.http));
    assert_eq!(turn.fails(node(ports), &words).kind(), io::ErrorKind::AddrInUse);
    // The first door's is free again.
    drop(TcpListener::bind(here(ports.rtmp)).unwrap());
    drop(taken);
    let taken = UdpSocket::bind(here(ports.control)).unwrap();
    let words = format!("calls door: another program already listens on {}", here(ports.control));
    assert_eq!(turn.fails(node(ports), &words).kind(), io::ErrorKind::AddrInUse);
    drop(taken);
    turn.works(node(ports), &[here(ports.rtmp), here(ports.http)]);
    // A node of the same process holds its ports as anybody else does, and is not disturbed.
    let other = node(ports).start().unwrap();
    let again = node(ports).start().unwrap_err();
    assert!(again.to_string().contains("own door: another program already listens on"), "{again}");
    assert_eq!(other.health(PATIENCE)[0].result, Ok(()));
    drop(TcpStream::connect(here(ports.http)).unwrap());
    other.stop().unwrap();
}

#[test]
fn a_start_that_has_two_doors_at_one_address_names_both() {
    let (turn, ports) = (Turn::take(), Ports::free());
    for (one, other) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "[::]")] {
        let [one, other] = [one, other].map(|ip| format!("{ip}:{}", ports.rtmp).parse().expect("an address"));
        let words = format!("own door: {other} is the http door's already");
        turn.fails(Node::builder().door(HTTP, one).door(OWN, other), &words);
    }
    let beside = SocketAddr::from(([127, 0, 0, 2], ports.rtmp));
    let over_udp = here(ports.rtmp);
    let node = Node::builder().door(HTTP, over_udp).door(OWN, beside).door(CALLS, over_udp);
    turn.works(node, &[over_udp, beside]);
}

#[test]
fn a_start_that_wants_an_address_of_another_machine_says_so() {
    let turn = Turn::take();
    // RFC 5737: nobody has it.
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], Ports::free().rtmp));
    let error = turn.fails(Node::builder().door(OWN, elsewhere), &format!("own door {elsewhere}: "));
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn a_start_that_cannot_make_the_directory_of_its_recordings_names_it() {
    let (turn, ports, folder) = (Turn::take(), Ports::free(), Folder::new("embedding-start"));
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let with = |directory: &std::path::Path, record| {
        let default = AppSettings { record, ..AppSettings::default() };
        let recordings = Recordings { directory: directory.to_owned(), sync: Sync::None };
        node(ports).settings(Settings { default, ..Settings::default() }).recordings(recordings)
    };
    let impossible = file.join("recordings");
    turn.fails(with(&impossible, true), &format!("directory of recordings {}: ", impossible.display()));
    let doors = [here(ports.rtmp), here(ports.http)];
    // Where nothing is recorded nobody needs it.
    turn.works(with(&impossible, false), &doors);
    turn.works(with(&folder.path().join("some/where"), true), &doors);
    assert!(folder.path().join("some/where").is_dir());
}

#[test]
fn a_start_that_wants_no_shard_or_too_many_says_how_many_there_may_be() {
    let (turn, ports) = (Turn::take(), Ports::free());
    turn.fails(node(ports).shards(0), "at least one shard");
    for shards in [SHARDS_MAX + 1, u16::MAX] {
        turn.fails(node(ports).shards(shards), &format!("at most {SHARDS_MAX} shards"));
    }
    turn.works(node(ports), &[here(ports.rtmp)]);
}

#[test]
fn a_start_that_has_too_few_descriptors_says_how_many_it_needs() {
    let (turn, ports) = (Turn::take(), Ports::free());
    let limit = getrlimit(Resource::Nofile);
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let lower = Rlimit { current: Some(open + 8), ..limit };
    setrlimit(Resource::Nofile, lower).unwrap();
    let error = turn.fails(node(ports), "descriptors at their start");
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    turn.works(node(ports), &[here(ports.rtmp)]);
}

#[test]
fn a_start_that_is_followed_by_a_stop_leaves_nothing_open() {
    let turn = Turn::take();
    for _ in 0..8 {
        let ports = Ports::free();
        turn.works(node(ports), &[here(ports.rtmp), here(ports.http)]);
    }
}
