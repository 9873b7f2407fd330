//! A server on libsrt, with nothing around it: `libsrt-peer receive ADDRESS:PORT` takes what any number of callers publish and drops
//! it; `libsrt-peer send ADDRESS:PORT BITS [MILLISECONDS]` sends every caller the same live messages at a bit rate, by one thread that
//! wakes so often. Stream ids are passed over, and all options are the library's own.

mod libsrt;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libsrt::{Epoll, Event, Number, Socket};

/// A message of live mode: seven packets of MPEG-TS.
const MESSAGE_BYTES: usize = 7 * PACKET_BYTES;
const PACKET_BYTES: usize = 188;
/// How often the sender wakes, unless it is told otherwise: as often as shardcast flushes.
const TICK: Duration = Duration::from_millis(40);
/// Sockets that are told of at once.
const EVENTS: usize = 256;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["receive", address] => parse(address).and_then(receive),
        ["send", address, bits] => parse(address).and_then(|address| send(address, parse(bits)?, TICK)),
        ["send", address, bits, tick] => parse(address)
            .and_then(|address| send(address, parse(bits)?, Duration::from_millis(parse(tick)?))),
        _ => Err(io::Error::other("receive ADDRESS:PORT, or send ADDRESS:PORT BITS [MILLISECONDS]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("libsrt-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A word as the value that it stands for. A bit rate may have its unit behind it.
fn parse<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.trim_end_matches("bit")
        .parse()
        .map_err(|_| io::Error::other(format!("{word} is not what is wanted there")))
}

/// Takes what callers publish, and drops it.
fn receive(address: SocketAddrV4) -> io::Result<()> {
    let (listener, epoll) = (Socket::listen(address)?, Epoll::new()?);
    epoll.add(&listener)?;
    let mut callers: HashMap<Number, Socket> = HashMap::new();
    let (mut events, mut buffer) = ([Event::default(); EVENTS], [0; 2 * MESSAGE_BYTES]);
    loop {
        for event in epoll.wait(&mut events) {
            if event.socket == listener.number() {
                while let Some(caller) = listener.accept() {
                    epoll.add(&caller)?;
                    callers.insert(caller.number(), caller);
                }
                continue;
            }
            let Some(caller) = callers.get(&event.socket) else { continue };
            let gone = loop {
                match caller.receive(&mut buffer) {
                    Ok(Some(length)) if length > 0 => {}
                    Ok(Some(_)) | Err(_) => break true,
                    Ok(None) => break false,
                }
            };
            if gone {
                callers.remove(&event.socket);
            }
        }
    }
}

/// Sends every caller the same.
fn send(address: SocketAddrV4, bits: u64, tick: Duration) -> io::Result<()> {
    let listener = Socket::listen(address)?;
    // Packets of nothing, which every receiver passes over. (ISO/IEC 13818-1, 2.4.3.3)
    let mut message = [0xff; MESSAGE_BYTES];
    for packet in message.chunks_mut(PACKET_BYTES) {
        packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    }
    let (began, mut due, mut sent) = (Instant::now(), Duration::ZERO, 0);
    let mut callers: Vec<Socket> = Vec::new();
    loop {
        while let Some(caller) = listener.accept() {
            callers.push(caller);
        }
        let made = began.elapsed().as_micros() as u64 * (bits / 8) / 1_000_000 / MESSAGE_BYTES as u64;
        for _ in sent..made {
            // For whom there is no room now, who loses a message as a live stream goes on.
            callers.retain(|caller| caller.send(&message).is_ok());
        }
        sent = made;
        due += tick;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
}
