//! A gateway: publishers show a token, every stream is recorded, metrics and an audit log say what happens.
//!
//! `cargo run --release -p shardcast-shards --example gateway -- /tmp/gateway`, then publish to
//! `rtmp://127.0.0.1:1935/live/cam?token=sesame`, watch `http://127.0.0.1:8080/live/cam.flv`, and look at
//! `http://127.0.0.1:9091/metrics` and `/tmp/gateway/audit.jsonl`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use shardcast_engine::{
    access::{Action, Authenticator, Question, Request, Verdict, query_value},
    protocol::{HTTP, RTMP},
    settings::Settings,
};
use shardcast_shards::{
    host::{AuditLog, Node, StorageCheck, StreamEvent},
    storage::{Folder, RecordingSink},
};

/// Everybody may watch. Who wants to publish is looked up by a thread that may take its time.
struct Tokens(mpsc::Sender<Question>);

impl Authenticator for Tokens {
    fn allows(&self, request: &Request<'_>) -> Verdict {
        if request.action == Action::Play { Verdict::Allowed } else { Verdict::Later }
    }
    fn ask(&self, question: Question) {
        // When the thread has gone, the question is dropped, and so refused.
        let _ = self.0.send(question);
    }
}

/// In place of a request to whoever knows the tokens.
fn look_up(questions: &mpsc::Receiver<Question>) {
    for question in questions {
        thread::sleep(Duration::from_millis(20));
        let known = query_value(&question.query, "token") == Some("sesame");
        question.answer(known);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: gateway FOLDER [RTMP HTTP METRICS]")?);
    let port = |place, usual| env::args().nth(place).map_or(Ok(usual), |port| port.parse::<u16>());
    let [rtmp, http, metrics] = [port(2, RTMP.port)?, port(3, HTTP.port)?, port(4, 9091)?]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));

    let (ask, questions) = mpsc::channel();
    thread::spawn(move || look_up(&questions));
    let storage = Arc::new(Folder::new(folder.join("recordings"))?);
    let settings = Settings { access: Arc::new(Tokens(ask)), ..Settings::default() };
    let node = Arc::new(Node::builder().settings(settings).door(RTMP, rtmp).door(HTTP, http).start()?);
    node.audit(AuditLog::new(File::create(folder.join("audit.jsonl"))?))?;
    node.add_check("storage", StorageCheck::new(storage.clone(), "health/probe"))?;
    let listener = TcpListener::bind(metrics)?;
    let shown = node.clone();
    thread::spawn(move || serve(&listener, &shown));
    println!("rtmp://{rtmp}/APP/STREAM?token=sesame\nhttp://{http}/APP/STREAM.flv\nhttp://{metrics}/metrics");

    let mut recordings = BTreeMap::new();
    let mut events = node.events();
    while let Some(event) = events.next_blocking() {
        println!("{event}");
        match event {
            StreamEvent::Published { name, resumed: false } => {
                let told = node.handle();
                let sink = RecordingSink::builder(storage.clone(), &format!("rec/{name}"))
                    .spool(folder.join("spool"))
                    .on_event(move |event| told.alarm(None, &event.to_string()))
                    .start()?;
                recordings.insert(name.clone(), node.feed(&name, sink)?);
            }
            StreamEvent::Ended { name } => drop(recordings.remove(&name)),
            _ => {}
        }
    }
    Ok(())
}

/// Health and metrics, to whoever asks for anything.
fn serve(listener: &TcpListener, node: &Node) {
    for peer in listener.incoming() {
        let Ok(mut peer) = peer else { continue };
        let _ = peer.read(&mut [0; 1024]);
        let mut page = String::new();
        for health in node.health(Duration::from_secs(1)) {
            let well = health.result.is_ok();
            page += &format!("gateway_well{{what=\"{}\"}} {}\n", health.name, u8::from(well));
        }
        page += &node.metrics(Duration::from_secs(1));
        let _ = write!(peer, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{page}");
    }
}
