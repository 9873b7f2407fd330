//! A viewer by WHEP that does what browsers cannot be made to: it says what it likes at the HTTP door, sends garbage from its own
//! address, and moves to another. Its WebRTC is the library's that the server has, too; what a browser makes of the server, others say.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind},
    net::{Protocol, Receive},
};

use super::{
    server::Server,
    web::{Page, Web},
};

/// A viewer.
pub struct Viewer {
    rtc: Rtc,
    /// Where it sends from; the last is where it is.
    sockets: Vec<UdpSocket>,
    /// The path of its conversation.
    pub place: String,
    /// The tag of its credentials, with its quotation marks.
    pub tag: String,
    /// The answer.
    pub answer: String,
    /// Packets of media that have come.
    pub packets: u64,
    /// Numbers that were left out between those of pictures.
    pub missing: u64,
    last: Option<u64>,
}

/// One request, and its answer.
///
/// # Panics
/// When there is none.
pub fn ask(server: &Server, method: &str, path: &str, fields: &str, body: &str) -> Page {
    let mut web = Web::connect(server);
    web.ask(&request(method, path, fields, body));
    web.answer()
}

/// The text of a request.
pub fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// An offer to take a stream, or to send one, and who makes it.
///
/// # Panics
/// When loopback has no more ports.
pub fn offer(publish: bool) -> (Rtc, SdpPendingOffer, String, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has ports");
    let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
    rtc.add_local_candidate(candidate(&socket));
    let mut api = rtc.sdp_api();
    let direction = if publish { Direction::SendOnly } else { Direction::RecvOnly };
    for kind in [MediaKind::Video, MediaKind::Audio] {
        api.add_media(kind, direction, None, None, None);
    }
    let (offer, pending) = api.apply().expect("something is offered");
    (rtc, pending, offer.to_sdp_string(), socket)
}

fn candidate(socket: &UdpSocket) -> Candidate {
    let address = socket.local_addr().expect("it is bound");
    Candidate::host(address, "udp").expect("an address")
}

/// What an offer and a fragment of a description are said to be.
pub const SDP: &str = "Content-Type: application/sdp\r\n";
/// See [`SDP`].
pub const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag\r\n";

impl Viewer {
    /// One that was let in.
    ///
    /// # Panics
    /// When it was not.
    pub fn new(server: &Server, name: &str) -> Self {
        let (mut rtc, pending, sdp, socket) = offer(false);
        let page = ask(server, "POST", &format!("/{name}/whep"), SDP, &sdp);
        assert_eq!(page.status, 201, "{}{}", page.head, page.text());
        let answer = page.text().to_owned();
        let accepted = SdpAnswer::from_sdp_string(&answer).expect("an answer");
        rtc.sdp_api().accept_answer(pending, accepted).expect("an answer to this offer");
        let field = |name: &str| page.field(name).expect("the answer says where and what").to_owned();
        let (place, tag) = (field("Location"), field("ETag"));
        Viewer { rtc, sockets: vec![socket], place, tag, answer, packets: 0, missing: 0, last: None }
    }

    /// Goes on until so many packets more have come. False when they do not within `patience`, or it is told that it is over.
    ///
    /// # Panics
    /// When the library fails.
    pub fn take(&mut self, packets: u64, patience: Duration) -> bool {
        let (end, wanted) = (Instant::now() + patience, self.packets + packets);
        while self.packets < wanted {
            if Instant::now() >= end || !self.rtc.is_alive() {
                return false;
            }
            self.step();
        }
        true
    }

    /// Sends this to where its media comes from, from its own address.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn blurt(&self, bytes: &[u8], to: u16) {
        let socket = self.sockets.last().expect("it has one");
        socket.send_to(bytes, ("127.0.0.1", to)).expect("loopback takes it");
    }

    fn step(&mut self) {
        let now = Instant::now();
        let until = loop {
            match self.rtc.poll_output().expect("the library goes on") {
                Output::Timeout(until) => break until,
                Output::Transmit(transmit) => {
                    // What would leave by an address that is gone is lost.
                    let from =
                        |socket: &&UdpSocket| socket.local_addr().is_ok_and(|own| own == transmit.source);
                    if let Some(socket) = self.sockets.last().filter(from) {
                        drop(socket.send_to(&transmit.contents, transmit.destination));
                    }
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.packets += 1;
                    if *packet.header.payload_type == self.pictures() {
                        let number = *packet.seq_no;
                        let expected = self.last.map_or(number, |last| last + 1);
                        self.missing += number.saturating_sub(expected);
                        self.last = Some(self.last.map_or(number, |last| last.max(number)));
                    }
                }
                Output::Event(_) => {}
            }
        };
        let wait =
            until.saturating_duration_since(now).clamp(Duration::from_millis(1), Duration::from_millis(20));
        let socket = self.sockets.last().expect("it has one");
        socket.set_read_timeout(Some(wait)).expect("a legal time");
        let mut buffer = [0; 2048];
        match socket.recv_from(&mut buffer) {
            Ok((length, source)) => {
                let destination = socket.local_addr().expect("it is bound");
                if let Ok(contents) = buffer[..length].try_into() {
                    let receive = Receive { proto: Protocol::Udp, source, destination, contents };
                    self.rtc
                        .handle_input(Input::Receive(Instant::now(), receive))
                        .expect("the library goes on");
                }
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}")
            }
        }
        self.rtc.handle_input(Input::Timeout(Instant::now())).expect("the library goes on");
    }

    /// The number that packets of pictures bear.
    fn pictures(&self) -> u8 {
        let numbers = self.answer.lines().find_map(|line| line.strip_prefix("m=video "));
        let first = numbers.and_then(|line| line.split(' ').nth(2));
        first.and_then(|number| number.trim().parse().ok()).expect("the answer has pictures")
    }

    /// Is at another address from here on, says so, and goes on.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn move_away(&mut self, server: &Server) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has ports");
        let own = IceCreds::new();
        let IceCreds { ufrag, pass } = &own;
        let body = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pass}\r\n");
        let page = ask(server, "PATCH", &self.place, &format!("{FRAGMENT}If-Match: \"*\"\r\n"), &body);
        assert_eq!(page.status, 200, "{}{}", page.head, page.text());
        let found = |name: &str| {
            let line = page.text().lines().find_map(|line| line.strip_prefix(name));
            line.expect("the answer has credentials").trim().to_owned()
        };
        let theirs = IceCreds { ufrag: found("a=ice-ufrag:"), pass: found("a=ice-pwd:") };
        let new = page.field("ETag").expect("a new tag").to_owned();
        assert_ne!(std::mem::replace(&mut self.tag, new), self.tag, "the tag is that of the credentials");
        let (local, remote) = (candidate(&socket), self.server());
        let old = candidate(self.sockets.last().expect("it has one"));
        self.sockets.push(socket);
        let mut api = self.rtc.direct_api();
        api.invalidate_candidate(&old);
        api.set_local_ice_credentials(own);
        api.set_remote_ice_credentials(theirs);
        self.rtc.add_local_candidate(local);
        self.rtc.add_remote_candidate(remote);
    }

    /// Where its media comes from.
    fn server(&self) -> Candidate {
        let line =
            self.answer.lines().find(|line| line.starts_with("a=candidate:")).expect("the answer has one");
        Candidate::from_sdp_string(line.trim_start_matches("a=").trim()).expect("a candidate")
    }

    /// The port that it comes from.
    pub fn port(&self) -> u16 {
        self.server().addr().port()
    }
}
