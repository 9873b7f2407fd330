//! A stream that comes in: its packets in their order, their frames, and reports on what has come of them.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;

use super::{
    super::wire::{put_packet, ssrc_of},
    packets,
    setup::{Channel, Setup, Stream},
};
use crate::{
    limits::RTP_DATAGRAM_BYTES_MAX,
    media::TrackId,
    rtp::{Demuxer, Order, Packet},
    session::{Event, Output},
    time::Now,
};

/// How often a publisher hears what has come of its packets.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A stream that comes in.
#[derive(Debug)]
pub(super) struct Publishing {
    channels: Vec<Channel>,
    /// The packets of each channel that come beside the connection, where others may overtake them.
    orders: Vec<Order>,
    demuxer: Demuxer,
    report_at: Now,
}

impl Publishing {
    pub fn new(setup: Setup, now: Now) -> Self {
        let Setup { stream, channels } = setup;
        let formats = match stream {
            Some(Stream::Announced(_, _, medias)) => medias,
            _ => Vec::new(),
        };
        Publishing {
            orders: channels
                .iter()
                .filter(|channel| channel.ports.is_some())
                .map(|_| Order::default())
                .collect(),
            channels,
            demuxer: Demuxer::new(formats.into_iter().map(|media| media.format)),
            report_at: now.after(REPORT_INTERVAL),
        }
    }

    /// Whether its packets come beside the connection.
    pub fn is_beside(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Says what the description has told.
    pub fn begin(&mut self, outbox: &mut VecDeque<Output>) {
        self.demuxer.begin(&mut emit(outbox));
    }

    /// A packet on a channel of the connection. One of a track that was not set up says nothing.
    pub fn packet(&mut self, channel: u8, bytes: &[u8], now: Now, outbox: &mut VecDeque<Output>) {
        if self.is_beside() {
            return;
        }
        for found in &self.channels {
            if found.media == channel {
                self.demuxer.packet(found.track, bytes, now, &mut emit(outbox));
            } else if found.control == channel {
                self.demuxer.control(found.track, bytes, now);
            }
        }
    }

    /// The same from a port, where packets come in any order, twice, or not at all.
    pub fn datagram(&mut self, channel: u8, bytes: &[u8], now: Now, outbox: &mut VecDeque<Output>) {
        let Publishing { channels, orders, demuxer, .. } = self;
        for (found, order) in channels.iter().zip(orders) {
            if found.control == channel {
                demuxer.control(found.track, bytes, now);
            }
            if found.media != channel || bytes.len() > RTP_DATAGRAM_BYTES_MAX {
                continue;
            }
            match Packet::parse(bytes) {
                Ok(packet) if demuxer.takes(found.track, packet.payload_type) => {
                    // What is missing is seen by the numbers once more.
                    let mut give = |bytes: Option<&[u8]>| {
                        if let Some(bytes) = bytes {
                            demuxer.packet(found.track, bytes, now, &mut emit(outbox));
                        }
                    };
                    order.expire(now, &mut give);
                    order.push(packet.sequence, bytes, now, &mut give);
                }
                // What is none of its track's has no place in their order. It is counted.
                _ => demuxer.packet(found.track, bytes, now, &mut emit(outbox)),
            }
        }
    }

    /// When there is something to be done.
    pub fn deadline(&self) -> Now {
        let waiting = self.orders.iter().filter_map(Order::deadline).min();
        waiting.map_or(self.report_at, |waiting| waiting.min(self.report_at))
    }

    /// Gives up what has been waited for too long, and reports.
    pub fn timeout(&mut self, now: Now, outbox: &mut VecDeque<Output>) {
        self.expire(now, now, outbox);
        if now < self.report_at {
            return;
        }
        self.report_at = now.after(REPORT_INTERVAL);
        let (mut report, mut bytes) = (BytesMut::new(), BytesMut::new());
        for channel in &self.channels {
            report.clear();
            let ssrc = ssrc_of(TrackId(channel.track as u8));
            self.demuxer.report(channel.track, ssrc, now, &mut report);
            if !report.is_empty() {
                put_packet(channel.control, &report, &mut bytes);
            }
        }
        if !bytes.is_empty() {
            outbox.push_back(packets(bytes.freeze(), self.is_beside()));
        }
    }

    /// Gives what is left: nothing more comes.
    pub fn finish(&mut self, now: Now, outbox: &mut VecDeque<Output>) {
        self.expire(Now(u64::MAX), now, outbox);
        self.demuxer.finish(now, &mut emit(outbox));
    }

    fn expire(&mut self, until: Now, now: Now, outbox: &mut VecDeque<Output>) {
        let Publishing { channels, orders, demuxer, .. } = self;
        for (found, order) in channels.iter().zip(orders) {
            order.expire(until, &mut |bytes| {
                if let Some(bytes) = bytes {
                    demuxer.packet(found.track, bytes, now, &mut emit(outbox));
                }
            });
        }
    }
}

fn emit(outbox: &mut VecDeque<Output>) -> impl FnMut(Event) {
    |event| outbox.push_back(Output::Event(event))
}
