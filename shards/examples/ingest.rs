//! The smallest program that takes streams in: an RTMP door, and a line for whatever happens.
//!
//! `cargo run --release -p shardcast-shards --example ingest`, then
//! `ffmpeg -re -i FILE -c copy -f flv rtmp://127.0.0.1:1935/live/cam`.

use std::{env, error::Error, net::Ipv4Addr};

use shardcast_engine::protocol::RTMP;
use shardcast_shards::host::Node;

fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).map_or(Ok(RTMP.port), |port| port.parse())?;
    let node = Node::builder().door(RTMP, (Ipv4Addr::LOCALHOST, port).into()).start()?;
    println!("rtmp://127.0.0.1:{port}/APP/STREAM");
    let mut events = node.events();
    while let Some(event) = events.next_blocking() {
        println!("{event}");
    }
    Ok(())
}
