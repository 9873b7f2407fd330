//! A connection that stands: both halves of it, the words between them, and time.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{
    packet::{self, Control, Data, Kind, Parity},
    receive::{self, Receiver},
    secret::Keys,
    send::{Batch, Sender},
    sequence::Sequence,
};
use crate::{limits, slab::Slab, stats::PathStats, time::Now};

/// How often the other side is told that there is somebody, where there is nothing else to say. (4.9)
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long the other side may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Packets by one key, after which another is taken; and how many before that the other side is told of it, and after that the old
/// one is kept. (6.1.6)
pub const KEY_PACKETS: u32 = 1 << 24;
const KEY_NOTICE_MAX: u32 = 1 << 12;
/// How often a new key is told until it is answered.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// What two sides have agreed on.
#[derive(Debug)]
pub struct Agreed {
    /// The other side's socket, and ours.
    pub theirs: u32,
    pub ours: u32,
    /// The number of the first packet, either way.
    pub first: Sequence,
    /// Packets that the other side has room for.
    pub window: u32,
    /// How long we hold back what we receive, and the other side what it is sent.
    pub latency: Duration,
    pub peer_latency: Duration,
    /// The time on the other side's clock, in microseconds, when its last handshake came, and when that was.
    pub timestamp: u32,
    pub heard: Now,
    pub keys: Option<Keys>,
    pub passphrase: Option<String>,
    /// What new keys are made of, and after how many packets.
    pub seed: [u8; 32],
    pub key_packets: u32,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    theirs: u32,
    ours: u32,
    began: Now,
    receiver: Receiver,
    sender: Sender,
    keys: Option<Keys>,
    renewal: Renewal,
    passphrase: Option<String>,
    slab: Slab,
    outbox: VecDeque<Batch>,
    heard: Now,
    spoke: Now,
    /// When what has come is looked at next: acknowledged, and handed on.
    tick: Option<Now>,
    /// The stream waits for the pace to let it go on.
    waits: bool,
    now: Now,
}

/// Where the change to another key is.
#[derive(Debug)]
struct Renewal {
    /// Packets that one key is good for, and how many before their end the next is told.
    each: u32,
    notice: u32,
    /// Packets by the key that is in use.
    packets: u32,
    seed: [u8; 32],
    /// Which packets go by which key.
    active: Parity,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    message: Vec<u8>,
    at: Now,
    answered: bool,
}

/// What a packet has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Fine,
    /// The other side is done.
    Shutdown,
    /// It is none of this connection, or says what cannot be.
    Stray,
}

impl Link {
    /// A connection that begins `now`; our clock began when the other side's handshake came.
    pub fn new(agreed: Agreed, now: Now) -> Link {
        let began = agreed.heard;
        Link::begun(agreed, began, now)
    }

    /// The same where our clock began at another time: it has been shown to the other side already.
    pub fn begun(agreed: Agreed, began: Now, now: Now) -> Link {
        let Agreed { theirs, ours, first, window, latency, peer_latency, timestamp, heard, .. } = agreed;
        let active = agreed.keys.as_ref().map_or(Parity::Even, Keys::parity);
        Link {
            theirs,
            ours,
            began,
            receiver: Receiver::new(first, timestamp, latency, heard),
            sender: Sender::new(first, theirs, peer_latency, window, now),
            keys: agreed.keys,
            renewal: Renewal {
                each: agreed.key_packets,
                notice: KEY_NOTICE_MAX.min(agreed.key_packets / 4),
                packets: 0,
                seed: agreed.seed,
                active,
                told: None,
            },
            passphrase: agreed.passphrase,
            slab: Slab::default(),
            outbox: VecDeque::new(),
            heard: now,
            spoke: now,
            tick: None,
            waits: false,
            now,
        }
    }

    /// Our clock is one that began then.
    #[cfg(test)]
    pub fn begin_at(&mut self, began: Now) {
        self.began = began;
    }

    /// Our clock, in microseconds.
    fn timestamp(&self, now: Now) -> u32 {
        now.since(self.began).as_micros() as u32
    }

    /// A packet has come.
    pub fn receive(&mut self, packet: &packet::Packet<'_>, now: Now) -> Heard {
        self.now = now;
        let to = match packet {
            packet::Packet::Data(data) => data.to,
            packet::Packet::Control(control) => control.to,
        };
        if to != self.ours {
            return Heard::Stray;
        }
        self.heard = now;
        match packet {
            packet::Packet::Data(data) => {
                self.data(data, now);
                Heard::Fine
            }
            packet::Packet::Control(control) => self.control(control, now),
        }
    }

    fn data(&mut self, data: &Data<'_>, now: Now) {
        if !self.receiver.wants(data.sequence) {
            return;
        }
        let piece = self.slab.take(data.payload.len());
        let mut payload = piece.unwrap_or_else(|| BytesMut::with_capacity(data.payload.len()));
        payload.extend_from_slice(data.payload);
        let readable = match (&self.keys, data.key) {
            (None, None) => true,
            (Some(keys), Some(parity)) => keys.apply(parity, data.sequence, &mut payload),
            // Where there is a passphrase nothing may come in the clear.
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !readable {
            self.receiver.counts_mut().unreadable += 1;
            payload.clear();
        }
        if let Some(run) = self.receiver.take(data.sequence, data.timestamp, payload.freeze(), now) {
            let list = packet::write_missing([run]);
            self.say(Kind::Missing(packet::ranges(&list)), now);
        }
        self.acknowledge(false, now);
        self.tick.get_or_insert(now.after(receive::TICK));
    }

    fn control(&mut self, control: &Control<'_>, now: Now) -> Heard {
        match control.kind {
            Kind::Acknowledge { number, next, report } => {
                if !self.sender.acknowledged(next, report.as_ref()) {
                    return Heard::Stray;
                }
                // Light ones want no echo.
                if number > 0 && report.is_some() {
                    self.say(Kind::Acknowledged(number), now);
                }
            }
            Kind::Acknowledged(number) => self.receiver.echo(number, control.timestamp, now),
            Kind::Missing(ranges) => {
                let (mut gone, mut makes_sense) = (Vec::new(), true);
                for (first, last) in ranges {
                    let (sense, old) = self.sender.missed(first, last, now);
                    makes_sense = sense;
                    if !sense {
                        break;
                    }
                    gone.extend(old);
                }
                // One word for all of them: what is between them is as old.
                if let (Some((first, _)), Some((_, last))) = (gone.first(), gone.last()) {
                    self.say(Kind::Drop { message: 0, first: *first, last: *last }, now);
                }
                self.send_again(now);
                if !makes_sense {
                    return Heard::Stray;
                }
            }
            Kind::Drop { first, last, .. } => {
                self.receiver.give_up(first, last);
                self.tick.get_or_insert(now.after(receive::TICK));
            }
            Kind::Keys { answer: false, message } => self.take_keys(message, now),
            Kind::Keys { answer: true, message } => {
                if let Some(told) = self.renewal.told.as_mut().filter(|told| told.message == message) {
                    told.answered = true;
                }
            }
            Kind::Shutdown => return Heard::Shutdown,
            Kind::KeepAlive | Kind::Handshake(_) | Kind::Other => {}
        }
        Heard::Fine
    }

    /// The other side has a new key.
    fn take_keys(&mut self, message: &[u8], now: Now) {
        let (Some(keys), Some(passphrase)) = (&mut self.keys, &self.passphrase) else { return };
        let Ok(newer) = Keys::open(message, passphrase) else { return };
        keys.merge(newer);
        let message = message.to_vec();
        self.say(Kind::Keys { answer: true, message: &message }, now);
    }

    /// The next payload whose time has come. An empty one stands for what could not be read.
    pub fn deliver(&mut self, now: Now) -> Option<Bytes> {
        self.receiver.next(now)
    }

    /// Whether something is missing before the payload that was delivered last.
    pub fn take_gap(&mut self) -> bool {
        self.receiver.take_gap()
    }

    /// What is left, whatever its time.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.receiver.rest()
    }

    /// Bytes of the stream that may be sent now.
    pub fn room(&mut self, now: Now) -> usize {
        self.now = now;
        let room = self.sender.room(now);
        self.waits = room == 0;
        room
    }

    /// Sends bytes of the stream.
    pub fn send(&mut self, stream: &[u8], now: Now) {
        self.now = now;
        self.waits = false;
        let before = self.sender.packets;
        let timestamp = self.timestamp(now);
        let keys = self.keys.as_ref().map(|keys| (keys, self.renewal.active));
        if let Some(batch) = self.sender.send(stream, timestamp, keys, now) {
            self.spoke = now;
            self.outbox.push_back(batch);
        }
        self.renew((self.sender.packets - before) as u32, now);
    }

    /// Nobody uses one key for ever.
    fn renew(&mut self, packets: u32, now: Now) {
        let (Some(keys), Some(passphrase)) = (&mut self.keys, &self.passphrase) else { return };
        let renewal = &mut self.renewal;
        renewal.packets = renewal.packets.saturating_add(packets);
        let next = renewal.active.other();
        if renewal.packets >= renewal.notice && renewal.packets < renewal.each - renewal.notice {
            keys.forget(next);
        }
        if renewal.packets >= renewal.each - renewal.notice && renewal.told.is_none() {
            renewal.seed = super::derived(&renewal.seed, &[b"next key"]);
            keys.replace(next, &super::derived(&renewal.seed, &[b"key"]));
            let message = keys.message(passphrase);
            renewal.told = Some(Told { message, at: Now(0), answered: false });
        }
        // Whoever has not answered could not read it; the draft's packets go by the old key until then.
        if renewal.packets >= renewal.each && renewal.told.as_ref().is_some_and(|told| told.answered) {
            (renewal.active, renewal.packets, renewal.told) = (next, 0, None);
        }
        self.tell_keys(now);
    }

    fn tell_keys(&mut self, now: Now) {
        let Some(told) = self.renewal.told.as_mut() else { return };
        if told.answered || now.since(told.at) < KEY_INTERVAL {
            return;
        }
        told.at = now;
        let message = told.message.clone();
        self.say(Kind::Keys { answer: false, message: &message }, now);
    }

    fn send_again(&mut self, now: Now) {
        while let Some(bytes) = self.sender.again(now) {
            self.spoke = now;
            let packet = bytes.len();
            self.outbox.push_back(Batch { bytes, packet });
        }
    }

    fn acknowledge(&mut self, whole: bool, now: Now) {
        if let Some(word) = self.receiver.acknowledge(whole, now) {
            self.say(Kind::Acknowledge { number: word.number, next: word.next, report: word.report }, now);
        }
    }

    /// Says something.
    pub fn say(&mut self, kind: Kind<'_>, now: Now) {
        let bytes = Control { kind, timestamp: self.timestamp(now), to: self.theirs }.write();
        self.spoke = now;
        self.outbox.push_back(Batch { packet: bytes.len(), bytes });
    }

    /// Says once more what was said before there was a connection, and what our clock shows by now: by that the other side knows
    /// when to hand on what comes.
    pub fn repeat(&mut self, bytes: &[u8], now: Now) {
        let bytes = packet::stamped(bytes, self.timestamp(now));
        self.outbox.push_back(Batch { packet: bytes.len(), bytes });
    }

    /// What there is to send.
    pub fn poll(&mut self) -> Option<Batch> {
        self.outbox.pop_front()
    }

    /// Does what is due. False when the other side has been silent for too long.
    pub fn time_out(&mut self, now: Now) -> bool {
        self.now = now;
        if now.since(self.heard) >= SILENCE_MAX {
            return false;
        }
        if self.tick.is_some_and(|tick| tick <= now) {
            let missing = self.receiver.missing(now);
            if !missing.is_empty() {
                let list = packet::write_missing(missing);
                self.say(Kind::Missing(packet::ranges(&list)), now);
            }
            self.acknowledge(true, now);
            self.tick = (!self.receiver.is_idle()).then(|| now.after(receive::TICK));
        }
        self.sender.tick(now);
        self.send_again(now);
        if now.since(self.spoke) >= KEEP_ALIVE {
            self.say(Kind::KeepAlive, now);
        }
        true
    }

    /// When [`time_out`](Self::time_out) has something to do, or something is to be [delivered](Self::deliver).
    pub fn deadline(&self) -> Now {
        let pause = if self.waits { self.sender.pause() } else { None };
        let pause = pause.map(|pause| self.now.after(pause));
        let always = self.spoke.after(KEEP_ALIVE).min(self.heard.after(SILENCE_MAX));
        [self.tick, self.sender.deadline(self.now), pause].into_iter().flatten().fold(always, Now::min)
    }

    /// What was counted.
    pub fn path(&self) -> PathStats {
        let counts = self.receiver.counts();
        let rtt = if self.sender.packets > 0 { self.sender.rtt() } else { self.receiver.rtt() };
        PathStats {
            connections: 1,
            rtt_microseconds: rtt.mean.into(),
            received_packets: counts.packets,
            missing_packets: counts.missing,
            recovered_packets: counts.recovered,
            lost_packets: counts.lost,
            late_packets: counts.late,
            duplicate_packets: counts.duplicates,
            refused_packets: counts.beyond,
            unreadable_packets: counts.unreadable,
            sent_packets: self.sender.packets,
            sent_again_packets: self.sender.again,
            given_up_packets: self.sender.dropped,
            receive_buffer_packets: self.receiver.held() as u64,
            send_buffer_packets: self.sender.held() as u64,
        }
    }
}

const _: () = assert!(limits::SRT_WINDOW_PACKETS >= 1024, "a group that somebody joins in fits");
