//! A node inside this program that an operator's config file places, the doors of the program's own protocols included.

use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use shardcast_engine::{
    access::{Authenticator, Request, Verdict},
    error::Error,
    media::StreamName,
    protocol::{Protocol, Transport},
    session::{Event, Input, Output, Session},
    settings::Settings,
    time::Now,
};
use shardcast_shards::{
    config::{Config, parse::Document},
    host::{Node, NodeBuilder},
};
use shardcast_tests::clients::{Folder, server::Ports};

/// How long anything here may take; far longer than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says what it heard, and wishes for a stream when it hears `P`.
#[derive(Default)]
struct Echo {
    received: u64,
    outbox: VecDeque<Output>,
}

impl Session for Echo {
    fn handle(&mut self, input: Input<'_>, _: Now) -> Result<(), Error> {
        match input {
            Input::Received(b"P") => {
                self.received += 1;
                let name = StreamName::parse("live/cam")?;
                self.outbox.push_back(Output::Event(Event::Publish { name, query: String::new() }));
            }
            Input::Received(bytes) => {
                self.received += bytes.len() as u64;
                self.outbox.push_back(Output::Send(Bytes::copy_from_slice(bytes)));
            }
            Input::Answer(answer) => {
                self.outbox.push_back(Output::Send(format!("{answer:?}").into()));
            }
            Input::Ended | Input::Shutdown => self.outbox.push_back(Output::Close),
            _ => {}
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        None
    }
    fn received(&self) -> u64 {
        self.received
    }
}

/// The program's own protocols, at ports that nobody has.
fn rows(ports: Ports) -> [Protocol; 2] {
    let open = |_: &_, _| -> Box<dyn Session> { Box::<Echo>::default() };
    [
        Protocol { name: "echo", port: ports.rtmp, transport: Transport::Tcp, greet: None, open },
        Protocol { name: "calls", port: ports.http, transport: Transport::Udp, greet: None, open },
    ]
}

/// A program that brings both along, with a config file of these lines; built-in doors are shut unless they open them.
fn program(folder: &Folder, rows: [Protocol; 2], lines: &str) -> NodeBuilder {
    let file = folder.path().join("program.toml");
    fs::write(
        &file,
        format!("shards = 2\nrtmp.port = 0\nrtsp.port = 0\nsrt.port = 0\nhttp.port = 0\n{lines}"),
    )
    .expect("a folder of our own");
    let config = Document::load(Some(&file)).expect("it can be understood");
    rows.into_iter().fold(Node::builder(), NodeBuilder::protocol).config(config)
}

/// What keeps such a program from starting.
fn refusal(folder: &Folder, rows: [Protocol; 2], lines: &str) -> String {
    let refused = program(folder, rows, lines).start().expect_err("it breaks a rule");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    refused.to_string().replace(&folder.path().display().to_string(), "")
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Says something by TCP, and hears the answer.
fn say(address: SocketAddr, words: &[u8]) -> std::io::Result<String> {
    let mut peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.write_all(words)?;
    let mut answer = [0; 64];
    let length = peer.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Says something in a datagram, and hears the answer.
fn call(address: SocketAddr, words: &[u8]) -> std::io::Result<String> {
    let peer = UdpSocket::bind(here(0))?;
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.connect(address)?;
    peer.send(words)?;
    let mut answer = [0; 64];
    let length = peer.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[test]
fn a_config_file_places_the_doors_of_the_programs_own_protocols() {
    let (folder, ports, elsewhere) = (Folder::new("embedding-config"), Ports::free(), Ports::free());
    let lines = format!(
        "[doors.echo]\nport = {}\nbind = \"127.0.0.2\"\n[doors.calls]\nport = {}\n",
        elsewhere.rtmp, elsewhere.http
    );
    let node = program(&folder, rows(ports), &lines).start().unwrap();
    let there = SocketAddr::from(([127, 0, 0, 2], elsewhere.rtmp));
    assert_eq!(say(there, b"hello").unwrap(), "hello");
    assert_eq!(say(there, b"P").unwrap(), "Publishing");
    assert_eq!(call(here(elsewhere.http), b"hello").unwrap(), "hello");
    for shut in [here(elsewhere.rtmp), here(ports.rtmp)] {
        assert_eq!(say(shut, b"hello").unwrap_err().kind(), ErrorKind::ConnectionRefused, "{shut}");
    }
    let metrics = node.metrics(PATIENCE);
    assert!(metrics.contains("shardcast_shards 2"), "{metrics}");
    for door in ["door=\"echo\"", "door=\"calls\""] {
        let accepted = metrics
            .lines()
            .filter(|line| line.starts_with("shardcast_door_accepted_total") && line.contains(door));
        let accepted: u64 = accepted.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert!(accepted > 0, "{door}: {metrics}");
    }
    node.stop().unwrap();
}

#[test]
fn a_protocol_that_the_file_does_not_name_has_its_own_port_and_port_0_keeps_a_door_shut() {
    let (folder, ports) = (Folder::new("embedding-config"), Ports::free());
    let node = program(&folder, rows(ports), "").start().unwrap();
    assert_eq!(say(here(ports.rtmp), b"one").unwrap(), "one");
    assert_eq!(call(here(ports.http), b"two").unwrap(), "two");
    node.stop().unwrap();
    let node =
        program(&folder, rows(ports), "[doors.echo]\nport = 0\n[doors.calls]\nport = 0\n").start().unwrap();
    assert_eq!(say(here(ports.rtmp), b"one").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(call(here(ports.http), b"two").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // Frames of its own go in and out all the same.
    assert_eq!(node.publish(&StreamName::parse("live/own").unwrap()).granted_blocking(), Ok(()));
    node.stop().unwrap();
    // Without a config they stand at their own ports on loopback.
    let node = rows(ports).into_iter().fold(Node::builder(), NodeBuilder::protocol).start().unwrap();
    assert_eq!(
        (say(here(ports.rtmp), b"one").unwrap(), call(here(ports.http), b"two").unwrap()),
        ("one".into(), "two".into())
    );
    node.stop().unwrap();
}

#[test]
fn a_door_of_no_protocol_keeps_the_program_from_starting_and_says_where_and_what_there_is() {
    let (folder, ports) = (Folder::new("embedding-config"), Ports::free());
    let why = refusal(&folder, rows(ports), "[stream]\n[doors.ehco]\nport = 1\n");
    assert!(
        why.starts_with("/program.toml:7: doors.ehco: ") && why.ends_with("there are echo, calls"),
        "{why}"
    );
    let why = refusal(&folder, rows(ports), "[doors.http]\nport = 1\n");
    assert!(why.starts_with("/program.toml:6: doors.http: ") && why.contains("[http]"), "{why}");
    // All that is wrong is said at once.
    let lines = "drain_timeout = \"60d\"\n[doors.echo]\nport = 1\nbind = \"0.0.0.0\"\n[doors.ehco]\n";
    let why = refusal(&folder, rows(ports), lines);
    let faults: Vec<&str> = why.lines().map(|line| line.split(": ").nth(1).unwrap_or("")).collect();
    assert_eq!(faults, ["doors.ehco", "doors.echo.bind", "drain_timeout"], "{why}");
    // The ports are free all the time.
    program(&folder, rows(ports), "").start().unwrap().stop().unwrap();
}

#[test]
fn the_binary_brings_no_protocol_along_and_refuses_their_doors() {
    let document = Document::parse("[doors.echo]\nport = 7000\n", Path::new("my.toml"), &|_| None).unwrap();
    let faults: Vec<String> = document.check().iter().map(ToString::to_string).collect();
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert!(
        fault.starts_with("my.toml:1: doors.echo: [doors.NAME] is for protocols that a program"),
        "{fault}"
    );
}

/// Lets nobody in.
struct Nobody;

impl Authenticator for Nobody {
    fn allows(&self, _: &Request<'_>) -> Verdict {
        Verdict::Refused
    }
}

#[test]
fn what_the_program_says_itself_beats_the_file() {
    let (folder, ports) = (Folder::new("embedding-config"), Ports::free());
    let open =
        format!("bind = \"0.0.0.0\"\n[doors.echo]\nport = {}\n[doors.calls]\nport = 0\n", ports.control);
    let why = refusal(&folder, rows(ports), &open);
    assert!(why.starts_with("/program.toml:6: bind: ") && why.contains("allow_anonymous"), "{why}");
    // An authenticator of its own is as good as keys.
    let settings = Settings { access: Arc::new(Nobody), ..Settings::default() };
    let node = program(&folder, rows(ports), &open).settings(settings).shards(1).start().unwrap();
    assert!(node.metrics(PATIENCE).contains("shardcast_shards 1"));
    assert_eq!(say(here(ports.control), b"P").unwrap(), "Refused(Forbidden)");
    node.stop().unwrap();
    // A config need not come from a file.
    let mut config = Config { shards: 1, ..Config::default() };
    config.rtsp.port = 0;
    config.srt.port = 0;
    (config.rtmp.port, config.http.port) = (0, ports.http);
    let node = Node::builder().config(config).start().unwrap();
    assert!(say(here(ports.http), b"GET / HTTP/1.0\r\n\r\n").unwrap().starts_with("HTTP/1.1 "));
    node.stop().unwrap();
}
