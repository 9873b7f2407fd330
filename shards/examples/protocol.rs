//! A protocol of one's own beside the built-in ones: bare MP3 over TCP, as a radio station's encoder sends it.
//!
//! `cargo run --release -p shardcast-shards --example protocol`, then
//! `ffmpeg -re -i FILE -vn -c:a libmp3lame -write_xing 0 -id3v2_version 0 -f mp3 tcp://127.0.0.1:8100`, and listen to
//! `http://127.0.0.1:8080/radio/live.flv`.

use std::{collections::VecDeque, env, error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use shardcast_engine::{
    codec::{Codec, Parameters, mp3},
    error::Error as Fault,
    limits::DoorLimits,
    media::{Frame, Payload, StreamName, TrackId},
    protocol::{HTTP, Protocol},
    session::{Answer, Event, Input, Output, Session},
    time::{MediaTime, Now},
};
use shardcast_shards::host::Node;

/// The row of the table: this is all that the node has to know. What carries it is what carries HTTP.
const RADIO: Protocol =
    Protocol { name: "radio", port: 8100, open: |limits, now| Box::new(Radio::new(limits, now)), ..HTTP };

/// One encoder's conversation, without its socket.
struct Radio {
    unread: BytesMut,
    received: u64,
    samples: i64,
    announced: bool,
    idle: Duration,
    heard: Now,
    outbox: VecDeque<Output>,
}

impl Radio {
    fn new(limits: &DoorLimits, now: Now) -> Self {
        let name = StreamName::parse("radio/live").expect("a legal name");
        let wish = Output::Event(Event::Publish { name, query: String::new() });
        let (unread, outbox) = (BytesMut::new(), VecDeque::from([wish]));
        Radio { unread, received: 0, samples: 0, announced: false, idle: limits.idle, heard: now, outbox }
    }

    fn frame(&mut self, rate: u32, payload: Payload) {
        let time = MediaTime { ticks: self.samples, rate };
        let frame = Frame { track: TrackId::AUDIO, dts: time, pts: time, payload };
        self.outbox.push_back(Output::Event(Event::Frame(frame)));
    }

    /// Cuts what has come into frames (ISO/IEC 11172-3, 2.4.3.1).
    fn read(&mut self) -> Result<(), Fault> {
        while self.unread.len() >= 4 {
            let at = self.received - self.unread.len() as u64;
            let header = mp3::Header::parse(&self.unread).map_err(|error| error.after(at))?;
            let padding = usize::from(self.unread[2] >> 1 & 1);
            let size = (header.frame_samples / 8 * header.bit_rate / header.sample_rate) as usize + padding;
            if self.unread.len() < size {
                break;
            }
            let data: Bytes = self.unread.split_to(size).freeze();
            if !std::mem::replace(&mut self.announced, true) {
                self.frame(
                    header.sample_rate,
                    Payload::Parameters(Arc::new(Parameters::from_mp3_frame(&data)?)),
                );
            }
            self.frame(header.sample_rate, Payload::Audio { codec: Codec::Mp3, data });
            self.samples += i64::from(header.frame_samples);
        }
        Ok(())
    }
}

impl Session for Radio {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Fault> {
        match input {
            Input::Received(bytes) => {
                self.heard = now;
                self.received += bytes.len() as u64;
                self.unread.extend_from_slice(bytes);
                return self.read();
            }
            Input::Answer(Answer::Refused(_)) | Input::Ended | Input::Shutdown => {
                self.outbox.push_back(Output::Close);
            }
            Input::Timeout if now >= self.heard.after(self.idle) => {
                return Err(Fault::timed_out("sent nothing for too long", self.received));
            }
            _ => {}
        }
        Ok(())
    }
    fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }
    fn deadline(&self) -> Option<Now> {
        Some(self.heard.after(self.idle))
    }
    fn received(&self) -> u64 {
        self.received
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port = |place, usual| env::args().nth(place).map_or(Ok(usual), |port| port.parse::<u16>());
    let (radio, http) = (port(1, RADIO.port)?, port(2, HTTP.port)?);
    let here = |port| (Ipv4Addr::LOCALHOST, port).into();
    let node = Node::builder().door(RADIO, here(radio)).door(HTTP, here(http)).start()?;
    println!("MP3 to tcp://127.0.0.1:{radio}, listen to http://127.0.0.1:{http}/radio/live.flv");
    let mut events = node.events();
    while let Some(event) = events.next_blocking() {
        println!("{event}");
    }
    Ok(())
}
