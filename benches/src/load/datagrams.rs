//! Viewers that are sent datagrams: by SRT, by WHEP, by RTSP beside its connection, and by nothing but an address. Their sockets are on
//! no ring: all that came is taken every few milliseconds, and so what publishers are told by SRT.

use std::{io, os::fd::AsFd, time::Duration};

use shardcast_engine::{media::Frame, time::Now};
use shardcast_io::{ring::SocketId, udp};

use super::{
    Kind, Load, State,
    line::{Heard, Line},
    now, send,
};
use crate::{scenario::Door, url::Url};

/// How often what has come is looked for: well below the 10 ms in which receivers by SRT acknowledge.
const INTERVAL: Duration = Duration::from_millis(4);
/// How often a viewer by RTSP says that it is still there; servers wait for a minute.
const STILL_HERE: Duration = Duration::from_secs(20);
/// Room for the largest datagram.
const BUFFER_BYTES: usize = 1 << 16;

/// Who is listened to.
pub(super) struct Listeners {
    /// Viewers that read their datagrams, by their place.
    pub viewers: Vec<usize>,
    last: Now,
    buffer: Vec<u8>,
}

impl Default for Listeners {
    fn default() -> Self {
        Listeners { viewers: Vec::new(), last: Now(0), buffer: vec![0; BUFFER_BYTES] }
    }
}

impl Listeners {
    /// There is something to look at by `now`.
    pub fn look_at(&mut self, now: Now) {
        self.last = Now(now.0.saturating_sub(INTERVAL.as_nanos() as u64));
    }
}

impl Load {
    /// A viewer comes by SRT, or by an address alone, where anything that is sent begins the stream.
    pub(super) fn enter_by_datagrams(&mut self, index: usize, url: &Url, joined: Now) -> Result<(), String> {
        if url.scheme != "udp" {
            let mut line = Line::call(url, false, self.plan.watch.srt, joined)?;
            if self.viewers[index].unparsed {
                line.look_no_more();
            }
            self.viewers[index].state = State::Calling(line);
            self.listeners.viewers.push(index);
            return Ok(());
        }
        let socket = udp::connect_first(&url.address).map_err(|error| format!("{}: {error}", url.address))?;
        self.viewers[index].state = State::Off(socket.into());
        self.drained.push_back(index);
        self.drain_datagrams(index);
        Ok(())
    }

    /// When all are listened to next, if there is anybody.
    pub(super) fn next_listen(&self) -> Option<Now> {
        let anybody = !self.listeners.viewers.is_empty()
            || self.publishers.first().is_some_and(|(publisher, _)| publisher.has_line());
        anybody.then(|| self.listeners.last.after(INTERVAL))
    }

    /// Takes what has come for those who are listened to, and does what is due for them.
    pub(super) fn listen_due(&mut self, now: Now) -> Result<(), String> {
        if self.next_listen().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.listeners.last = now;
        let mut buffer = std::mem::take(&mut self.listeners.buffer);
        for (publisher, _) in &mut self.publishers {
            publisher.work_line(&mut buffer, self::now()).map_err(|why| format!("a publisher: {why}"))?;
        }
        let mut viewers = std::mem::take(&mut self.listeners.viewers);
        viewers.retain(|index| self.listen(*index, &mut buffer));
        self.listeners.viewers = viewers;
        self.listeners.buffer = buffer;
        Ok(())
    }

    /// Takes what has come for one viewer; false when it is not to be listened to any more.
    fn listen(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let moment = now();
        let viewer = &mut self.viewers[index];
        let (judge, findings) = (&mut viewer.judge, &mut self.findings);
        let had_key = judge.first_key().is_some();
        let judges = !had_key || viewer.kind == Kind::Parse;
        let mut emit = |frame: &Frame, at: Now| {
            if judges {
                judge.frame(frame, at, findings);
            }
        };
        let result = match (&mut viewer.state, viewer.talk.as_mut().and_then(|talk| talk.rtsp())) {
            (State::Calling(line), _) => line.work(buffer, moment, &mut |heard| {
                if let Heard::Frame(frame) = heard {
                    emit(frame, moment);
                }
            }),
            (State::Meeting(meeting), _) => meeting.whep.work(buffer, moment, &mut emit),
            (State::Ring(_), Some(rtsp)) => rtsp.take_datagrams(buffer, moment, &mut emit),
            _ => return false,
        };
        match result {
            Ok(bytes) => {
                viewer.bytes += bytes;
                self.delivered += bytes;
            }
            Err(why) => {
                self.findings.checks.unreadable += u64::from(had_key);
                self.refused += u64::from(!had_key);
                self.complain(format!("a viewer: {why}"));
                self.leave(index);
                return false;
            }
        }
        if had_key || viewer.unparsed {
            self.say_still_here(index, moment);
            return true;
        }
        viewer.arrivals.push((viewer.bytes, moment));
        let Some((key, bytes)) = viewer.judge.first_key() else { return true };
        let began = viewer.bytes.saturating_sub(bytes as u64);
        self.first_keys.record(key.since(viewer.joined));
        let arrival = viewer.arrivals.iter().find(|(bytes, _)| *bytes > began);
        self.first_bytes.record(arrival.map_or(key, |(_, at)| *at).since(viewer.joined));
        viewer.arrivals = Vec::new();
        if viewer.kind == Kind::Parse {
            return true;
        }
        self.replaceable.push_back(index);
        // By SRT and WHEP it goes on listening: what has come must be acknowledged.
        match &mut viewer.state {
            State::Calling(line) => line.look_no_more(),
            State::Meeting(meeting) => meeting.whep.look_no_more(),
            _ => {
                self.drained.push_back(index);
                return false;
            }
        }
        true
    }

    /// Throws away the datagrams that have come for a viewer; false when it is gone.
    pub(super) fn drain_datagrams(&mut self, index: usize) -> bool {
        let viewer = &mut self.viewers[index];
        let result = match (&viewer.state, viewer.talk.as_mut().and_then(|talk| talk.rtsp())) {
            (State::Off(socket), _) => {
                if viewer.bytes == 0 {
                    // Until something comes: where nobody listens yet, what was said is lost.
                    let _ = rustix::net::send(socket, b"here", rustix::net::SendFlags::DONTWAIT);
                }
                discard_all(socket)
            }
            (State::Ring(_), Some(rtsp)) => rtsp.discard_datagrams(),
            _ => return false,
        };
        match result {
            Ok(bytes) => {
                viewer.bytes += bytes;
                self.delivered += bytes;
                self.say_still_here(index, now());
                true
            }
            Err(why) => {
                self.lost(index, &why);
                false
            }
        }
    }

    /// A viewer by RTSP has been answered, or has been told something, inside its connection.
    pub(super) fn answered_beside(&mut self, index: usize, socket: SocketId, bytes: &[u8]) {
        let viewer = &mut self.viewers[index];
        let Some(talk) = &mut viewer.talk else { return };
        match talk.received(bytes, now(), &mut |_, _| {}) {
            Ok(answer) => {
                viewer.out.waiting().extend_from_slice(&answer);
                send(&mut self.ring, socket, viewer.out.next());
            }
            Err(why) => self.lost(index, &why),
        }
    }

    fn say_still_here(&mut self, index: usize, moment: Now) {
        let viewer = &mut self.viewers[index];
        let State::Ring(socket) = viewer.state else { return };
        if self.plan.watch.by != Door::RtspUdp || moment.since(viewer.spoke) < STILL_HERE {
            return;
        }
        viewer.spoke = moment;
        let words = viewer.talk.as_mut().and_then(|talk| talk.rtsp()).map(|rtsp| rtsp.still_here());
        viewer.out.waiting().extend_from_slice(&words.unwrap_or_default());
        send(&mut self.ring, socket, viewer.out.next());
    }
}

/// Throws away all that has come by a socket; gives its bytes.
fn discard_all(socket: &impl AsFd) -> Result<u64, String> {
    let mut bytes = 0;
    loop {
        match udp::discard(socket.as_fd()) {
            Ok((count, taken)) => {
                bytes += taken as u64;
                if count < udp::DISCARDED_MAX {
                    return Ok(bytes);
                }
            }
            // A floor that is not there yet, or no more.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(bytes);
            }
            Err(error) => return Err(format!("a socket failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn all_that_came_is_thrown_away() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(discard_all(&receiver), Ok(0));
        let sender = udp::connect_first(receiver.local_addr().unwrap()).unwrap();
        for _ in 0..100 {
            sender.send(&[7; 10]).unwrap();
        }
        assert_eq!(discard_all(&receiver), Ok(1000));
        assert_eq!(discard_all(&receiver), Ok(0));
    }
}
