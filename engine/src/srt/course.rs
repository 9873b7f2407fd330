//! A connection's course once it stands: what comes is a stream that is published here, or what goes is one that is played.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    link::{Heard, Link},
    packet::{Kind, Packet},
};
use crate::{
    error::Error,
    limits,
    mpegts::Demuxer,
    session::{Event, Output},
    stats::PathStats,
    time::Now,
};

/// How long nothing comes until the picture that came last is taken for whole: it ends where another begins, and none may follow.
const QUIET: Duration = Duration::from_secs(1);
/// How long a viewer is given to play what it holds, before it is told that the stream is over: as long as it holds back, and this.
const FAREWELL_MIN: Duration = Duration::from_millis(100);
const FAREWELL_MAX: Duration = Duration::from_secs(3);
/// What is tolerated of packets that are none of the connection's, or say what cannot be.
const STRAYS_MAX: u32 = 1000;

/// A connection that stands.
#[derive(Debug)]
pub struct Course {
    link: Link,
    way: Way,
    strays: u32,
}

/// Which way the stream goes.
#[derive(Debug)]
enum Way {
    /// It comes from the other side. When something came last, unless what that left open has been ended.
    In { demuxer: Box<Demuxer>, heard: Option<Now> },
    /// It goes there, where it is held back for so long. When it is over, the other side is told so then.
    Out { latency: Duration, leaves: Option<Now> },
}

impl Course {
    /// Of a stream that comes by `link`.
    pub fn of_publisher(link: Link) -> Self {
        Course { link, way: Way::In { demuxer: Box::default(), heard: None }, strays: 0 }
    }

    /// Of a stream that goes by `link` to a side that holds it back for `latency`.
    pub fn of_viewer(link: Link, latency: Duration) -> Self {
        Course { link, way: Way::Out { latency, leaves: None }, strays: 0 }
    }

    /// A datagram has come. True when the other side is done.
    ///
    /// # Errors
    /// Too much of what comes makes no sense.
    pub fn receive(
        &mut self,
        packet: Result<Packet<'_>, Error>,
        at: u64,
        out: &mut VecDeque<Output>,
        now: Now,
    ) -> Result<bool, Error> {
        let heard = packet.map_or(Heard::Stray, |packet| self.link.receive(&packet, now));
        match heard {
            Heard::Fine => {
                self.deliver(out, now);
                self.drain(out);
            }
            Heard::Shutdown => {
                self.finish(out);
                if let Way::In { .. } = self.way {
                    out.push_back(Output::Event(Event::Unpublish));
                }
                return Ok(true);
            }
            Heard::Stray => {
                self.strays += 1;
                if self.strays >= STRAYS_MAX {
                    return Err(Error::malformed("packets that make no sense in this connection", at));
                }
            }
        }
        Ok(false)
    }

    /// Says once more what was said before, and what our clock shows by now.
    pub fn repeat(&mut self, bytes: &[u8], out: &mut VecDeque<Output>, now: Now) {
        self.link.repeat(bytes, now);
        self.drain(out);
    }

    /// Does what is due. True when it is over.
    ///
    /// # Errors
    /// The other side has said nothing for too long.
    pub fn time_out(&mut self, at: u64, out: &mut VecDeque<Output>, now: Now) -> Result<bool, Error> {
        if !self.link.time_out(now) {
            self.part(out, now);
            return Err(Error::timed_out("nothing came for 5 seconds", at));
        }
        self.deliver(out, now);
        self.drain(out);
        let leaves = matches!(self.way, Way::Out { leaves: Some(leaves), .. } if leaves <= now);
        if leaves {
            self.part(out, now);
        }
        Ok(leaves)
    }

    /// When there is something to do.
    pub fn deadline(&self) -> Now {
        let own = match self.way {
            Way::In { heard, .. } => heard.map(|heard| heard.after(QUIET)),
            Way::Out { leaves, .. } => leaves,
        };
        own.into_iter().fold(self.link.deadline(), Now::min)
    }

    /// The stream is over. The viewer holds some of it back, and what it has missed is sent again meanwhile.
    pub fn leave(&mut self, now: Now) {
        if let Way::Out { latency, leaves } = &mut self.way {
            leaves.get_or_insert(now.after((*latency + FAREWELL_MIN).min(FAREWELL_MAX)));
        }
    }

    /// Says goodbye.
    pub fn part(&mut self, out: &mut VecDeque<Output>, now: Now) {
        self.link.say(Kind::Shutdown, now);
        self.drain(out);
        self.finish(out);
    }

    /// Bytes of the stream that may be sent now.
    pub fn room(&mut self, now: Now) -> usize {
        match self.way {
            Way::Out { leaves: None, .. } => self.link.room(now),
            Way::Out { .. } | Way::In { .. } => 0,
        }
    }

    /// Sends bytes of the stream; says how many.
    pub fn carry(&mut self, bytes: &Bytes, out: &mut VecDeque<Output>, now: Now) -> usize {
        let room = self.link.room(now);
        // Whole packets of MPEG-TS, but for what must be taken whole.
        let most = if bytes.len() <= limits::CARRIED_HEADER_BYTES_MAX { bytes.len() } else { room };
        let taken = bytes.slice(..bytes.len().min(most));
        self.link.send(&taken, now);
        self.drain(out);
        taken.len()
    }

    /// What was counted.
    pub fn path(&self) -> PathStats {
        self.link.path()
    }

    /// Hands on what is due.
    fn deliver(&mut self, out: &mut VecDeque<Output>, now: Now) {
        let Way::In { demuxer, heard } = &mut self.way else { return };
        while let Some(payload) = self.link.deliver(now) {
            *heard = Some(now);
            if self.link.take_gap() || payload.is_empty() {
                demuxer.lose();
            }
            demuxer.push(&payload, &mut |event| out.push_back(Output::Event(event)));
        }
        if heard.is_some_and(|heard| heard.after(QUIET) <= now) {
            *heard = None;
            demuxer.finish(&mut |event| out.push_back(Output::Event(event)));
        }
    }

    /// Nothing more will come of the stream: what is left is handed on.
    fn finish(&mut self, out: &mut VecDeque<Output>) {
        let Way::In { demuxer, .. } = &mut self.way else { return };
        let mut tell = |event: Event| out.push_back(Output::Event(event));
        while let Some(payload) = self.link.rest() {
            if self.link.take_gap() || payload.is_empty() {
                demuxer.lose();
            }
            demuxer.push(&payload, &mut tell);
        }
        demuxer.finish(&mut tell);
    }

    /// What the connection has to send.
    fn drain(&mut self, out: &mut VecDeque<Output>) {
        while let Some(batch) = self.link.poll() {
            out.push_back(if batch.packet >= batch.bytes.len() {
                Output::Send(batch.bytes)
            } else {
                Output::Datagrams { bytes: batch.bytes, size: batch.packet as u16 }
            });
        }
    }
}
