//! A program with a node inside: it publishes frames of its own, everybody can watch them by RTMP and HTTP-FLV, and it has
//! the frames of a stream back.
//!
//! `cargo run --release -p shardcast-shards --example frames`, then `ffplay http://127.0.0.1:8080/live/clip.flv`. It ends
//! after a minute.

use std::{
    env,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use shardcast_engine::{
    demo::{CLIP, Demo},
    media::StreamName,
    protocol::{HTTP, RTMP},
    time::Now,
};
use shardcast_shards::host::{Node, PublishError};

const SHOWN: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let port = |place, usual| env::args().nth(place).map_or(Ok(usual), |port| port.parse::<u16>());
    let (rtmp, http) = (port(1, RTMP.port)?, port(2, HTTP.port)?);
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let node = Node::builder()
        .door(RTMP, here(rtmp))
        .door(HTTP, here(http))
        .on_notice(|core, notice| eprintln!("shard {}: {}", core.0, notice.text))
        .start()?;
    let name = StreamName::parse("live/clip")?;
    println!("rtmp://127.0.0.1:{rtmp}/{name}\nhttp://127.0.0.1:{http}/{name}.flv");

    // In: any thread may have a publisher. This one plays a clip at its own pace.
    let mut publisher = node.publish(&name);
    let mut clip = Demo::new(CLIP)?;
    let publishing = thread::spawn(move || -> Result<(), PublishError> {
        let began = Instant::now();
        while began.elapsed() < SHOWN {
            let now = Now(began.elapsed().as_nanos() as u64);
            while let Some(frame) = clip.poll(now) {
                publisher.send_blocking(frame)?;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });

    // Out: frames of a stream, whoever publishes it. The one above ends when its publisher has been gone for ten seconds.
    let mut subscriber = node.subscribe(&name);
    let (mut frames, mut bytes, mut told) = (0, 0, Instant::now());
    while let Ok(batch) = subscriber.next_batch_blocking() {
        frames += batch.len();
        bytes += batch.iter().map(|frame| frame.payload_bytes()).sum::<usize>();
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            println!("{frames} frames, {} kB", bytes / 1000);
        }
    }
    publishing.join().map_err(|_| "the publisher panicked")??;
    node.stop()?;
    Ok(())
}
