//! The control door: metrics and health by HTTP, for this machine.
//!
//! - `/metrics`: every counter and gauge, for Prometheus.
//! - `/healthz`: 200 while every shard answers within a second, else 503. Restart the process when it stays so. A node
//!   that drains is well, even if some of its shards have ended already.
//! - `/readyz`: 200 while peers are welcome; 503 while the node starts or drains.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
    serve::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, Sleep, sleep},
};

use super::{link::Phase, log::Log, metrics, shards::Shards};
use crate::pull::Counters;

/// Connections to the control door at once. The next one waits in the kernel's queue.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;
/// A connection that is silent for this long is closed. Longer than the usual interval of a scrape, so that a scraper
/// can keep its connection.
pub const CONTROL_IDLE: Duration = Duration::from_secs(75);

/// The open door. Dropping it shuts it.
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    server: JoinHandle<io::Result<()>>,
}

impl Door {
    /// Opens it at `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// The address cannot be had, most likely because another program holds it.
    pub async fn open(
        address: SocketAddr,
        shards: Arc<Shards>,
        log: Log,
        pulls: Vec<Arc<Counters>>,
    ) -> io::Result<Door> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("the control door cannot listen on {address}: {error}"))
        })?;
        let address = listener.local_addr()?;
        let room = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
        let server =
            tokio::spawn(axum::serve(Bounded { listener, room }, routes(shards, log, pulls)).into_future());
        Ok(Door { address, server })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Known {
    shards: Arc<Shards>,
    log: Log,
    pulls: Arc<[Arc<Counters>]>,
}

fn routes(shards: Arc<Shards>, log: Log, pulls: Vec<Arc<Counters>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Known { shards, log, pulls: pulls.into() })
}

async fn metrics(State(known): State<Known>) -> impl IntoResponse {
    let snapshot = known.shards.snapshot().await;
    let mut text = metrics::expose(&snapshot, known.shards.phase(), known.log.lost());
    let pulls: Vec<_> = known.pulls.iter().map(|pull| pull.read()).collect();
    text.push_str(&metrics::expose_pulls(&pulls));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn healthz(State(known): State<Known>) -> impl IntoResponse {
    let snapshot = known.shards.snapshot().await;
    let silent: Vec<String> = snapshot
        .reports
        .iter()
        .enumerate()
        .filter(|(_, report)| report.is_none())
        .map(|(shard, _)| shard.to_string())
        .collect();
    if silent.is_empty() || known.shards.phase() == Phase::Draining {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no answer from shard {}\n", silent.join(", ")))
    }
}

async fn readyz(State(known): State<Known>) -> impl IntoResponse {
    match known.shards.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// Takes no more connections than there is room for, and none that stays silent.
struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        // axum's own accept waits a second where the system has no descriptor left, instead of spinning.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection { stream, silence: Box::pin(sleep(CONTROL_IDLE)), _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                this.silence.as_mut().reset(Instant::now() + CONTROL_IDLE);
                Poll::Ready(result)
            }
            Poll::Pending => {
                this.silence.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
