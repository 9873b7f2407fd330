//! One publisher: a clip at its own pace, by RTMP, by RTSP, by SRT, by WHIP, as MPEG-TS in datagrams or as FLV by plain TCP.

use std::{io::ErrorKind, net::UdpSocket, os::fd::AsFd};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    flv,
    limits::DoorLimits,
    media::StreamName,
    mpegts, rtmp, rtsp,
    session::{Answer, Event, Input, Output, Session, Wire},
    time::Now,
    webrtc,
};

use shardcast_io::udp;

use super::{
    line::{Heard, Line},
    outbox::Outbox,
    target_of,
};
use crate::{clip::Playback, histogram::Histogram, scenario::SrtPeer, url::Url, webrtc::Whip};

/// Bytes of a datagram: seven packets of MPEG-TS, as every sender of it does.
const DATAGRAM_BYTES: usize = 7 * 188;
/// Datagrams of one send: what the kernel cuts at once.
const DATAGRAMS_MAX: usize = 45;

/// One publisher without its socket; by SRT and by datagrams it has one of its own.
pub struct Publisher {
    talk: Talk,
    wire: Box<dyn Wire>,
    playback: Playback,
    /// When the clip's first frame was due.
    started: Option<Now>,
    stopped: bool,
    /// How much later than it could it starts, so that not all have their key frames at once.
    stagger: std::time::Duration,
    out: Outbox,
    /// Frames published so far.
    pub frames: u64,
    /// Bytes that the kernel has taken so far.
    pub bytes: u64,
    /// Frames that were due while the ones before were still on their way.
    pub held: u64,
}

enum Talk {
    /// By one connection, in which the server is asked first.
    Asked(Box<dyn Session>),
    Srt(Line),
    Whip(Box<Whip>),
    Datagrams(UdpSocket),
    Flv,
}

impl Publisher {
    /// A publisher of `playback` to `url`; by SRT, `srt` says what calls there.
    ///
    /// # Errors
    /// The URL is none that can be published to.
    pub fn new(
        url: &Url,
        srt: SrtPeer,
        playback: Playback,
        stagger: std::time::Duration,
        now: Now,
    ) -> Result<Publisher, String> {
        let (talk, wire) = match url.scheme.as_str() {
            "rtmp" => {
                let (target, name) = target_of(url)?;
                let client = rtmp::Client::push(target, name, &DoorLimits::default(), now);
                (Talk::Asked(Box::new(client)), (rtmp::FORM.open)())
            }
            "rtsp" => {
                let target = rtsp::client::Target {
                    url: format!("rtsp://{}{}", url.address, url.path),
                    credentials: None,
                };
                // What it is called here is nobody's business there.
                let name = StreamName::new("live", "bench").map_err(|error| error.to_string())?;
                let client = rtsp::Client::push(target, name, &DoorLimits::default(), now);
                // Which form it is depends on the tracks that the server takes.
                (Talk::Asked(Box::new(client)), (rtmp::FORM.open)())
            }
            "srt" => (Talk::Srt(Line::call(url, true, srt, now)?), (mpegts::FORM.open)()),
            "http" => (Talk::Whip(Box::new(Whip::call(url, now)?)), (webrtc::wire::FORM.open)()),
            "udp" => (Talk::Datagrams(sender(url)?), (mpegts::FORM.open)()),
            "flv" => (Talk::Flv, (flv::FORM.open)()),
            scheme => return Err(format!("nothing is published by {scheme}://")),
        };
        let mut publisher = Publisher {
            talk,
            wire,
            playback,
            started: None,
            stopped: false,
            stagger,
            out: Outbox::default(),
            frames: 0,
            bytes: 0,
            held: 0,
        };
        match publisher.talk {
            Talk::Asked(_) => publisher.listen(now)?,
            Talk::Srt(_) | Talk::Whip(_) => {}
            Talk::Datagrams(_) | Talk::Flv => publisher.start(now),
        }
        Ok(publisher)
    }

    /// Whether it has a socket of its own, and [`work_line`](Self::work_line) is to be called again and again.
    pub fn has_line(&self) -> bool {
        matches!(self.talk, Talk::Srt(_) | Talk::Whip(_) | Talk::Datagrams(_))
    }

    /// Takes what has come by its own socket, and sends what is due. `buffer` has room for a datagram.
    ///
    /// # Errors
    /// The server refuses, or has ended the stream.
    pub fn work_line(&mut self, buffer: &mut [u8], now: Now) -> Result<(), String> {
        let mut granted = false;
        match &mut self.talk {
            Talk::Srt(line) => {
                line.work(buffer, now, &mut |heard| granted |= matches!(heard, Heard::Granted))?;
            }
            Talk::Whip(whip) => granted = whip.work(buffer, now)?,
            _ => return Ok(()),
        }
        if granted {
            self.start(now);
        }
        self.carry(now)
    }

    /// Sends by its own socket what may go.
    fn carry(&mut self, now: Now) -> Result<(), String> {
        self.bytes += match &mut self.talk {
            Talk::Srt(line) => line.carry(self.out.waiting(), self.stopped, now)?,
            Talk::Whip(whip) => whip.carry(self.out.waiting(), now)?,
            Talk::Datagrams(socket) => send(socket, self.out.waiting(), self.stopped)?,
            Talk::Asked(_) | Talk::Flv => 0,
        } as u64;
        Ok(())
    }

    /// The server has said something.
    ///
    /// # Errors
    /// It has refused the stream, or broken the protocol.
    pub fn received(&mut self, bytes: &[u8], now: Now) -> Result<(), String> {
        if let Talk::Asked(session) = &mut self.talk {
            session.handle(Input::Received(bytes), now).map_err(|error| error.to_string())?;
            return self.listen(now);
        }
        Ok(())
    }

    /// Whether the server has granted the stream.
    pub fn is_publishing(&self) -> bool {
        self.started.is_some()
    }

    /// When the next frame is due.
    pub fn due(&self) -> Option<Now> {
        let started = self.started.filter(|_| !self.stopped)?;
        Some(Now(started.0 + self.playback.due()))
    }

    /// No frame is due any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether the kernel has taken everything; by libsrt, whether it has arrived.
    pub fn is_sent(&self) -> bool {
        let has_left = !matches!(&self.talk, Talk::Srt(line) if !line.is_sent());
        self.out.is_empty() && has_left
    }

    /// Bytes that were due and that the kernel has not taken.
    pub fn waiting(&self) -> u64 {
        self.out.len() as u64
    }

    /// Muxes every frame that is due by `now`, and sends it where it has a socket of its own.
    ///
    /// # Errors
    /// The server has ended the stream.
    pub fn work(&mut self, now: Now, lateness: &mut Histogram) -> Result<(), String> {
        if let Talk::Asked(session) = &mut self.talk
            && session.deadline().is_some_and(|deadline| deadline <= now)
        {
            session.handle(Input::Timeout, now).map_err(|error| error.to_string())?;
            self.listen(now)?;
        }
        while let Some(due) = self.due().filter(|due| *due <= now) {
            // Read anew for each: what many publishers send in one round leaves one after the other.
            let moment = Now(shardcast_io::clock::monotonic());
            lateness.record(moment.since(due));
            self.held += u64::from(self.out.is_sending());
            let frame = self.playback.take(moment.0);
            self.frames += 1;
            self.wire.frame(&frame, self.out.waiting());
        }
        self.carry(now)
    }

    /// Takes what is to be sent now by the ring.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.has_line() { None } else { self.out.next() }
    }

    /// The socket has taken so many bytes; gives what is to be sent next.
    pub fn sent(&mut self, bytes: usize) -> Option<Bytes> {
        self.bytes += bytes as u64;
        self.out.sent(bytes)
    }

    /// Pictures published so far.
    pub fn pictures(&self) -> u64 {
        self.playback.pictures()
    }

    fn listen(&mut self, now: Now) -> Result<(), String> {
        let Talk::Asked(session) = &mut self.talk else { return Ok(()) };
        let mut granted = false;
        while let Some(output) = session.poll() {
            match output {
                Output::Send(bytes) | Output::Share(bytes) | Output::Datagrams { bytes, .. } => {
                    self.out.waiting().extend_from_slice(&bytes)
                }
                Output::Event(Event::Describe { .. }) => {
                    let opening = Box::new(self.playback.clip().opening().clone());
                    session.handle(Input::Described(opening), now).map_err(|error| error.to_string())?;
                }
                Output::Event(Event::Play { form, .. }) => {
                    self.wire = (form.open)();
                    session.handle(Input::Answer(Answer::Playing), now).map_err(|error| error.to_string())?;
                    granted = true;
                }
                Output::Event(_)
                | Output::Ports(_)
                | Output::Packets(_)
                | Output::Datagram { .. }
                | Output::Address(_) => {}
                Output::Close => return Err("the server has ended the stream".to_owned()),
            }
        }
        if granted {
            self.start(now);
        }
        Ok(())
    }

    fn start(&mut self, now: Now) {
        let clip = self.playback.clip();
        if let Some(first) = clip.parts().first() {
            self.wire.header(clip.opening(), &first.frame, self.out.waiting());
        }
        self.started = Some(now.after(self.stagger));
    }
}

/// A socket whose longer sends are cut into datagrams.
fn sender(url: &Url) -> Result<UdpSocket, String> {
    let opened = udp::connect_first(&url.address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        udp::cut(socket.as_fd(), DATAGRAM_BYTES as u16)?;
        Ok(socket)
    });
    opened.map_err(|error| format!("{}: {error}", url.address))
}

/// Sends whole datagrams, and at the end of the stream what is left; says how many bytes that was. What finds no room is lost.
fn send(socket: &UdpSocket, waiting: &mut BytesMut, ends: bool) -> Result<usize, String> {
    let bytes = if ends { waiting.len() } else { waiting.len() / DATAGRAM_BYTES * DATAGRAM_BYTES };
    for run in waiting.split_to(bytes).chunks(DATAGRAMS_MAX * DATAGRAM_BYTES) {
        match socket.send(run) {
            Ok(_) => {}
            // Nobody listens there yet, or no more.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("a socket failed: {error}")),
        }
    }
    Ok(bytes)
}
