//! The control thread against shards that only answer.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::JoinHandle,
};

use shardcast_engine::{message::CoreId, settings::Settings, stats::ShardStats};
use shardcast_io::lane::Doorbell;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::*;
use crate::{
    config::{LogFormat, LogLevel},
    control::link::{self, Report},
};

/// A shard that counts how often it was asked, takes settings, and ends when it is told to drain.
struct Shard {
    thread: JoinHandle<Option<Arc<Settings>>>,
}

impl Shard {
    fn start(
        core: CoreId,
        mut port: link::Port,
        ended: mpsc::UnboundedSender<Ended>,
        mute: Arc<AtomicBool>,
    ) -> Shard {
        let thread = std::thread::spawn(move || {
            let mut settings = None;
            let mut asked = 0;
            loop {
                match port.try_next() {
                    Some(_) if mute.load(Ordering::Relaxed) => {}
                    Some(Request::Report(answer)) => {
                        asked += 1;
                        let stats = ShardStats { rounds: asked, ..ShardStats::default() };
                        let _ = answer.send(Report { stats, ..Report::default() });
                    }
                    Some(Request::Settings(new)) => settings = Some(new),
                    Some(Request::Certificate(_)) => {}
                    Some(Request::Drain) => break,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            let _ = ended.send(Ended { core, result: Ok(()) });
            settings
        });
        Shard { thread }
    }
}

fn start(count: u16, mute: &Arc<AtomicBool>) -> (Started, Vec<Shard>) {
    let (sender, ended) = mpsc::unbounded_channel();
    let mut links = Vec::new();
    let shards = (0..count)
        .map(|core| {
            let (link, port) = link::link(Arc::new(Doorbell::new()));
            links.push(link);
            Shard::start(CoreId(core), port, sender.clone(), mute.clone())
        })
        .collect();
    (Started { links, ended, threads: Vec::new(), host: None }, shards)
}

async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn eventually(address: SocketAddr, path: &str, status: u16) -> String {
    for _ in 0..500 {
        match get(address, path).await {
            Some((got, body)) if got == status => return body,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{path} never answered {status}");
}

fn signal_self(name: &str) {
    let own = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args([name, &own]).status().unwrap().success());
}

fn document(text: &str) -> Document {
    Document::parse(text, Path::new("test.toml"), &|_| None).unwrap()
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One test, because signals reach the whole process.
#[tokio::test]
async fn a_node_serves_reloads_and_drains_as_the_signals_say() {
    let mute = Arc::new(AtomicBool::new(false));
    let (node, shards) = start(2, &mute);
    let (log, writer) = Log::start(LogFormat::Text, LogLevel::Info, false, std::io::sink()).unwrap();
    let address = free_address();
    let text = format!("[control]\nbind = \"{address}\"\n");
    let changed = format!("{text}[stream]\nviewers = 7\n[rtmp]\nport = 1936\n");
    let refuse = AtomicBool::new(true);
    let read_again = || {
        if refuse.swap(false, Ordering::Relaxed) {
            let text = format!("{changed}nonsense = 1\n");
            return Document::parse(&text, Path::new("test.toml"), &|_| None).map_err(|fault| vec![fault]);
        }
        Ok(document(&changed))
    };
    let document = document(&text);
    let control = Control { node, document, read_again: &read_again, opened: &|_| (), log, status: true };
    let drive = async {
        assert_eq!(eventually(address, "/readyz", 200).await, "ready\n");
        assert_eq!(eventually(address, "/healthz", 200).await, "ok\n");
        let metrics = eventually(address, "/metrics", 200).await;
        assert!(metrics.contains("shardcast_rounds_total{shard=\"1\"}"), "{metrics}");
        eventually(address, "/nothing", 404).await;

        mute.store(true, Ordering::Relaxed);
        assert_eq!(eventually(address, "/healthz", 503).await, "no answer from shard 0, 1\n");
        mute.store(false, Ordering::Relaxed);
        eventually(address, "/healthz", 200).await;

        // The first reload is refused and changes nothing; the second one holds.
        signal_self("-HUP");
        while refuse.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        signal_self("-HUP");
        tokio::time::sleep(Duration::from_millis(100)).await;
        signal_self("-TERM");
    };
    let (end, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(control.run(), drive) })
            .await
            .unwrap();
    assert_eq!(end.unwrap(), End::Asked);
    for shard in shards {
        let settings = shard.thread.join().unwrap().expect("the reload reached every shard");
        assert_eq!(settings.default.limits.viewers, 7);
    }
    drop(writer);
}

#[tokio::test]
async fn a_shard_that_fails_ends_the_node() {
    let (sender, ended) = mpsc::unbounded_channel();
    let (link, _port) = link::link(Arc::new(Doorbell::new()));
    let (log, writer) = Log::start(LogFormat::Text, LogLevel::Info, false, std::io::sink()).unwrap();
    let control = Control {
        node: Started { links: vec![link], ended, threads: Vec::new(), host: None },
        document: document("[control]\nbind = \"127.0.0.1:0\"\n"),
        read_again: &|| Ok(Document::default()),
        opened: &|_| (),
        log,
        status: false,
    };
    sender.send(Ended { core: CoreId(0), result: Err("no io_uring".into()) }).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), control.run()).await.unwrap();
    assert_eq!(end.unwrap(), End::Failed);
    drop(writer);
}

#[tokio::test]
async fn a_control_port_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (log, _writer) = Log::start(LogFormat::Text, LogLevel::Info, false, std::io::sink()).unwrap();
    let error = Door::open(address, Arc::new(Shards::new(Vec::new())), log, Vec::new()).await.err().unwrap();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
