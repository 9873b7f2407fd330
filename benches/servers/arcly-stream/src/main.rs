//! Serves RTMP by arcly-stream: `arcly-stream-host ADDRESS:PORT THREADS`.
//!
//! The library has the protocol, the fan-out and the replay for viewers who join; a host program chooses the runtime and
//! the bounds. Both are chosen here so that nothing but the library's own work is measured: no log, no observer, no
//! authentication, no bound that a run could reach.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use arcly_stream::protocol::rtmp::RtmpHandler;
use arcly_stream::{AppSpec, Engine};
use tokio::runtime::{Builder, Runtime};

/// More connections than any scenario makes. The library's default of 1024 would turn viewers away.
const CONNECTIONS_MAX: usize = 100_000;
/// Frames kept for viewers who join: more than two minutes between two key frames at 30 frames a second. A group that
/// is longer loses its newest frames, and whoever joins then decodes garbage until the next one.
const GROUP_FRAMES_MAX: usize = 4096;

fn main() -> ExitCode {
    match arguments().and_then(|(address, threads)| serve(address, threads)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arcly-stream-host: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(SocketAddr, usize), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(threads), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: arcly-stream-host ADDRESS:PORT THREADS".into());
    };
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let threads = threads.parse().map_err(|error| format!("{threads}: {error}"))?;
    Ok((address, threads))
}

/// Serves until SIGTERM or SIGINT.
fn serve(address: SocketAddr, threads: usize) -> Result<(), Box<dyn Error>> {
    let app = AppSpec::new("live").gop_cache(GROUP_FRAMES_MAX);
    let engine = Engine::builder().application(app).build();
    let rtmp = RtmpHandler::new(address).max_connections(CONNECTIONS_MAX).with_playback(engine.clone());
    runtime(threads)?.block_on(engine.serve_until_signal(vec![Box::new(rtmp)]))?;
    Ok(())
}

/// On one core the runtime without work stealing is the cheaper one: no other thread is woken, no queue is shared.
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    match threads {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}
