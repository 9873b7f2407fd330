//! Each floor on loopback, with a few peers for a moment: does it do to all of them what it says?
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use shardcast_bench::{
    floor::{gso, receive, relay, send, write},
    prometheus,
};
use shardcast_io::udp;

/// A floor that runs on a thread of its own.
struct Running<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(io::Result<()>, Option<T>)>,
}

impl<T: Copy + Send + 'static> Running<T> {
    /// Starts a floor; what it reports last is kept.
    fn start(run: impl FnOnce(&AtomicBool, &mut Option<T>) -> io::Result<()> + Send + 'static) -> Running<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = thread::spawn(move || {
            let mut last = None;
            (run(&seen, &mut last), last)
        });
        Running { stop, thread }
    }

    fn stop(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        let (result, last) = self.thread.join().unwrap();
        result.unwrap();
        last.expect("a floor that ran for a second has reported")
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut socket = connect(address);
    socket.write_all(b"GET /x.flv HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    socket
}

/// Reads the response's head, byte by byte so as not to take any of the body.
fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// What a socket gives until a moment.
fn count_until(socket: &mut TcpStream, end: Instant) -> u64 {
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let (mut count, mut buffer) = (0, vec![0; 1 << 16]);
    while Instant::now() < end {
        match socket.read(&mut buffer) {
            Ok(0) => panic!("the floor has closed a viewer"),
            Ok(taken) => count += taken as u64,
            Err(error) => {
                assert!(
                    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
                    "{error}"
                );
            }
        }
    }
    count
}

#[test]
fn every_address_is_sent_the_datagrams_of_the_clip() {
    let options = gso::Options { listen: loopback(), bitrate: 2_000_000, flush: Duration::from_millis(20) };
    let sender = gso::Sender::open(&options).unwrap();
    let address = sender.address().unwrap();
    let running = Running::start(|stop, last| sender.run(stop, |report| *last = Some(*report)));
    let viewers: Vec<UdpSocket> = (0..3).map(|_| udp::connect_first(address).unwrap()).collect();
    for viewer in &viewers {
        viewer.send(b"here").unwrap();
        viewer.send(b"again").unwrap();
    }
    // From one key frame to the next at least, for one takes a part of a second's bytes.
    thread::sleep(Duration::from_millis(2000));
    let discarded = |viewer: &UdpSocket| {
        let mut sum = (0, 0);
        while let Ok((count, bytes)) = udp::discard(viewer.as_fd()) {
            sum = (sum.0 + count, sum.1 + bytes);
        }
        sum
    };
    let came: Vec<(usize, usize)> = viewers.iter().map(discarded).collect();
    for (count, bytes) in &came {
        assert!((300_000..800_000).contains(bytes), "{came:?}");
        assert!(bytes / count > 500, "{came:?}");
    }
    let report = running.stop();
    assert_eq!(report.viewers, 3);
    assert!(report.sends > 300, "{report:?}");
}

#[test]
fn every_viewer_of_the_sender_gets_the_bit_rate() {
    let options = send::Options {
        listen: loopback(),
        bitrate: 8_000_000,
        flush: Duration::from_millis(20),
        clip: None,
        bytes_per_send: 20_000,
        seal: false,
    };
    let sender = send::Sender::open(&options).unwrap();
    let address = sender.address().unwrap();
    let running = Running::start(|stop, last| sender.run(stop, |report| *last = Some(*report)));
    let mut viewers: Vec<TcpStream> = (0..3).map(|_| ask(address)).collect();
    for viewer in &mut viewers {
        assert!(read_head(viewer).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let end = Instant::now() + Duration::from_millis(1500);
    let threads: Vec<_> =
        viewers.into_iter().map(|mut viewer| thread::spawn(move || count_until(&mut viewer, end))).collect();
    let counts: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    // A loaded machine may have read a moment less, or more.
    assert!(counts.iter().all(|count| count.abs_diff(1_500_000) <= 15 * 20_000), "{counts:?}");
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2 * 20_000, "{counts:?}");
    let report = running.stop();
    assert!(report.sends > 100, "{report:?}");
    assert!(report.bytes > 2_000_000, "{report:?}");
}

#[test]
fn a_viewer_who_takes_nothing_delays_no_other() {
    let options = send::Options {
        listen: loopback(),
        bitrate: 200_000_000,
        flush: Duration::from_millis(10),
        clip: None,
        bytes_per_send: 0,
        seal: false,
    };
    let sender = send::Sender::open(&options).unwrap();
    let address = sender.address().unwrap();
    let running = Running::start(|stop, last| sender.run(stop, |report| *last = Some(*report)));
    let stalled = ask(address);
    let mut viewer = ask(address);
    let count = count_until(&mut viewer, Instant::now() + Duration::from_millis(1500));
    assert!(count > 25_000_000, "{count} of 37500000");
    let report = running.stop();
    assert!(report.left_out > 0, "{report:?}");
    drop(stalled);
}

fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut tag = vec![kind];
    tag.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    tag.extend_from_slice(&[0; 7]);
    tag.extend_from_slice(body);
    tag.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
    tag
}

fn key_frame(filler: u8) -> Vec<u8> {
    tag(9, &[&[0x17, 1, 0, 0, 0][..], &vec![filler; 50_000]].concat())
}

#[test]
fn the_relay_gives_all_that_came_and_latecomers_a_whole_stream() {
    let options = relay::Options { publish: loopback(), play: loopback() };
    let relay = relay::Relay::open(&options).unwrap();
    let (publish, play) = (relay.publish_address().unwrap(), relay.play_address().unwrap());
    let running = Running::start(|stop, last| relay.run(stop, |report| *last = Some(*report)));
    let mut early: Vec<TcpStream> = (0..3).map(|_| ask(play)).collect();
    early.iter_mut().for_each(|viewer| assert!(read_head(viewer).contains("video/x-flv")));

    let head = [b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec(), tag(9, &[0x17, 0, 0, 0, 0, 1])].concat();
    let first = [key_frame(1), tag(9, &[0x27, 1, 0, 0, 0, 2])].concat();
    let second = [key_frame(3), tag(9, &[0x27, 1, 0, 0, 0, 4])].concat();
    let mut publisher = connect(publish);
    for piece in [&head[..], &first] {
        publisher.write_all(piece).unwrap();
    }
    // Once this one has it all, so has the relay.
    let mut seen = vec![0; head.len() + first.len()];
    early[0].read_exact(&mut seen).unwrap();
    let mut late = ask(play);
    read_head(&mut late);
    for piece in second.chunks(7_000) {
        publisher.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    // The publisher stays for a report.
    thread::sleep(Duration::from_millis(1100));
    drop(publisher);

    let whole = [&head[..], &first, &second].concat();
    for (number, viewer) in early.iter_mut().enumerate() {
        let mut got = if number == 0 { seen.clone() } else { Vec::new() };
        viewer.read_to_end(&mut got).unwrap();
        assert!(got == whole, "{} of {} bytes", got.len(), whole.len());
    }
    let mut got = Vec::new();
    late.read_to_end(&mut got).unwrap();
    assert!(got == [&head[..], &second].concat(), "{} bytes", got.len());
    let report = running.stop();
    assert_eq!((report.received_bytes, report.lagged), (whole.len() as u64, 0));
}

#[test]
fn the_receiver_takes_all_that_publishers_send() {
    let options = receive::Options { listen: loopback(), tick: Duration::from_millis(4) };
    let receiver = receive::Receiver::open(&options).unwrap();
    let address = receiver.address().unwrap();
    let running = Running::start(|stop, last: &mut Option<receive::Report>| {
        let mut ticked = false;
        receiver.run(stop, |report| {
            ticked |= report.ticking;
            *last = Some(receive::Report { ticking: ticked, ..*report });
        })
    });
    let mut publishers: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    let began = Instant::now();
    let mut sent = 0;
    // A piece each millisecond is a crowd.
    while began.elapsed() < Duration::from_millis(1600) {
        for publisher in &mut publishers {
            publisher.write_all(&[9; 5000]).unwrap();
            sent += 5000;
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(1100));
    let report = running.stop();
    assert_eq!((report.bytes, report.publishers), (sent, 3));
    assert!(report.ticking, "{report:?}");
}

#[test]
fn the_writer_keeps_its_pace_and_its_bound() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("floor-write");
    let _ = fs::remove_dir_all(&dir);
    let mut options = write::Options {
        dir: dir.clone(),
        files: 4,
        bitrate: 4_000_000,
        fragment: Duration::from_millis(100),
        most: 4 * 5 * (52 << 10),
        remove: false,
        metrics: Some(loopback()),
    };
    let writer = write::Writer::open(&options).unwrap();
    assert_eq!(writer.fragment_bytes(), 52 << 10);
    let metrics = writer.metrics_address().unwrap();
    let running = Running::start(|stop, last| writer.run(stop, |report| *last = Some(*report)));
    thread::sleep(Duration::from_millis(1500));
    let sums = prometheus::scrape(&format!("http://{metrics}/metrics"));
    let report = running.stop();
    let told = sums["shardcast_recorded_bytes_total"];
    assert!(told > 0.0 && told % f64::from(52 << 10) == 0.0, "{told}");
    // A first round of four at once, so to speak, and then forty a second.
    assert!((30..=90).contains(&report.writes), "{report:?}");
    assert_eq!((report.bytes, report.missed), (report.writes * (52 << 10), 0));
    assert!(report.files > 4, "each file is replaced when it has its share: {report:?}");
    let mut files = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let length = entry.unwrap().metadata().unwrap().len();
        assert!(length <= 5 * (52 << 10), "{length}");
        files += 1;
    }
    assert_eq!(files, 4);
    fs::remove_dir_all(&dir).unwrap();

    // Files that lose their names at once.
    options.remove = true;
    let writer = write::Writer::open(&options).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    drop(writer);
    options.most = 4 * (50 << 10);
    assert!(write::Writer::open(&options).is_err(), "a share that holds no fragment");
    fs::remove_dir_all(&dir).unwrap();
}
