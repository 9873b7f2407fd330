//! The floors: what the bare kernel takes for a server's work, so that every figure has something to be a ratio of.
//!
//! Each floor is a server of its own, which a run starts, pins and measures like any other: [`send`] gives every viewer
//! the same bytes with no server logic, [`gso`] the same datagrams, [`relay`] passes on what a publisher sends at once, [`receive`] takes what
//! publishers send and drops it, [`sessions`] encrypts a stream for viewers by WHEP, [`mod@write`] writes fragments to files. They use the rings, the socket options and the
//! batches that a shard uses, and nothing of the engine's hub, sessions or logs. [`files`] is of another kind: files for a
//! web server of somebody else's, which it becomes.
//!
//! A floor runs until a signal kills it: it has nothing to tidy up. It prints one line of JSON to standard output each
//! second; whoever gives it a pipe must read it, as a full one would stop the floor.

pub mod files;
pub mod gso;
pub mod receive;
pub mod relay;
pub mod send;
pub mod sessions;
pub mod write;

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    sync::atomic::AtomicBool,
};

use serde::Serialize;
use shardcast_io::{
    probe,
    tcp::{self, SocketOptions},
};

/// A floor, and how it is to run.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Floor {
    /// The same bytes to the same sockets by a bare batched ring: no server logic
    Send(send::Options),
    /// The same datagrams to the same addresses, runs of them cut by the kernel
    Gso(gso::Options),
    /// The same pictures to viewers by WHEP: a bare loop of str0m's sessions
    Str0m(sessions::Options),
    /// What a publisher sends, passed on at once to every viewer
    Relay(relay::Options),
    /// What publishers send, received and dropped
    Receive(receive::Options),
    /// Fragments of recordings, written past the page cache
    Write(write::Options),
    /// Files of given sizes, and the web server that this process becomes
    Static(files::Options),
}

/// Runs a floor until the process is killed.
///
/// # Errors
/// Its port is taken, its files cannot be made, or the ring failed.
pub fn run(floor: Floor) -> io::Result<()> {
    // Where it fails, the ring takes as many sockets as it may.
    let _ = probe::raise_nofile();
    let stop = AtomicBool::new(false);
    match floor {
        Floor::Send(options) => send::Sender::open(&options)?.run(&stop, say),
        Floor::Gso(options) => gso::Sender::open(&options)?.run(&stop, say),
        Floor::Str0m(options) => sessions::Sessions::open(&options)?.run(&stop, say),
        Floor::Relay(options) => relay::Relay::open(&options)?.run(&stop, say),
        Floor::Receive(options) => receive::Receiver::open(&options)?.run(&stop, say),
        Floor::Write(options) => write::Writer::open(&options)?.run(&stop, say),
        Floor::Static(options) => files::run(&options),
    }
}

/// Prints a report as one line. Nobody may be listening any more, which is no reason to end.
fn say<T: Serialize>(report: &T) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    }
}

/// A listener whose connections have the options that a shard gives to its own.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    tcp::ensure_free(address)?;
    let options = SocketOptions { notsent_bytes: Some(UNSENT_BYTES_MAX), ..SocketOptions::default() };
    tcp::bind_with(address, &options)
}

/// When the next report is due: once a second.
struct Seconds {
    next: u64,
}

impl Seconds {
    fn from(now: u64) -> Seconds {
        Seconds { next: now + SECOND }
    }

    /// Whether a second has passed; true once for each.
    fn passed(&mut self, now: u64) -> bool {
        let passed = now >= self.next;
        while now >= self.next {
            self.next += SECOND;
        }
        passed
    }
}

const SECOND: u64 = 1_000_000_000;
/// Sends between two enters of the ring, as in a shard.
const SENDS_PER_ENTER: usize = 128;
/// TCP_NOTSENT_LOWAT of a viewer's socket, as in a shard.
const UNSENT_BYTES_MAX: u32 = 512 << 10;
/// What a viewer by HTTP is told before the first byte of a stream: its body ends with the connection (RFC 9112, 6.3).
const RESPONSE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        floor: Floor,
    }

    fn parse(line: &str) -> Floor {
        use clap::Parser;
        Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).floor
    }

    #[test]
    fn each_floor_is_started_by_one_line() {
        let line = "bench send --listen 127.0.0.1:8070 --bitrate 4Mbit --flush 33ms --bytes-per-send 16500";
        let Floor::Send(send) = parse(line) else { panic!("{line}") };
        assert_eq!((send.bitrate, send.flush.as_millis(), send.bytes_per_send), (4_000_000, 33, 16_500));
        let line = "bench gso --listen 127.0.0.1:8072 --bitrate 4Mbit --flush 33ms";
        let Floor::Gso(gso) = parse(line) else { panic!("{line}") };
        assert_eq!((gso.bitrate, gso.flush.as_millis()), (4_000_000, 33));
        let line = "bench str0m --listen 127.0.0.1:8073 --media 127.0.0.1:8074 --bitrate 3Mbit";
        let Floor::Str0m(sessions) = parse(line) else { panic!("{line}") };
        assert_eq!((sessions.media.port(), sessions.bitrate), (8074, 3_000_000));
        let line = "bench relay --publish 127.0.0.1:8071 --play 127.0.0.1:8070";
        let Floor::Relay(relay) = parse(line) else { panic!("{line}") };
        assert_eq!((relay.publish.port(), relay.play.port()), (8071, 8070));
        let line = "bench receive --listen 127.0.0.1:8071 --tick 4ms";
        let Floor::Receive(receive) = parse(line) else { panic!("{line}") };
        assert_eq!(receive.tick.as_millis(), 4);
        let line =
            "bench write --dir /tmp/x --files 128 --bitrate 2Mbit --fragment 900ms --most 8GiB --remove";
        let Floor::Write(write) = parse(line) else { panic!("{line}") };
        assert_eq!((write.files, write.most, write.remove), (128, 8 << 30, true));
        let line = "bench static --dir /tmp/x --sizes 300,5000 -- nginx -c /tmp/nginx.conf -g x";
        let Floor::Static(files) = parse(line) else { panic!("{line}") };
        assert_eq!((files.sizes, files.command.len()), (vec![300, 5000], 5));
    }

    #[test]
    fn a_late_second_is_reported_once() {
        let mut seconds = Seconds::from(5);
        assert!(!seconds.passed(SECOND));
        assert!(seconds.passed(4 * SECOND));
        assert!(!seconds.passed(4 * SECOND));
        assert!(seconds.passed(4 * SECOND + 5));
    }
}
