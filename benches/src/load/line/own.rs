//! A line by the engine's own caller, and the socket that it has for itself.

use std::{io, net::UdpSocket, os::fd::AsFd};

use bytes::BytesMut;
use shardcast_engine::{
    limits::DoorLimits,
    media::StreamName,
    session::{Answer, Event, Input, Output, Session, Shelf},
    srt::{Caller, Target},
    time::Now,
};
use shardcast_io::udp;

use super::{ENDED, Heard, MESSAGE_BYTES};

/// Bytes of a packet's head. (draft-sharabayko-srt-01, 3)
const HEAD_BYTES: usize = 16;
/// Bytes that one send has at most: what the kernel cuts at once.
const SEND_BYTES_MAX: usize = 60_000;

/// A line of our own.
pub struct Own {
    caller: Caller,
    socket: UdpSocket,
    /// What the kernel cuts longer sends into; 0 before the first.
    cut: u16,
}

impl Own {
    /// Calls `address`, to publish or to play.
    ///
    /// # Errors
    /// There is no way there.
    pub fn call(address: &str, target: Target, publishes: bool, now: Now) -> Result<Own, String> {
        // Who is not asked for a stream by name needs one all the same.
        let name = target.name().map_or_else(|| StreamName::new("live", "bench"), Ok);
        let name = name.map_err(|error| error.to_string())?;
        let socket = udp::connect_first(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| format!("{address}: {error}"))?;
        let call = if publishes { Caller::push } else { Caller::pull };
        Ok(Own { caller: call(target, name, &DoorLimits::default(), now), socket, cut: 0 })
    }

    /// As of any line.
    pub fn work(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<u64, String> {
        let mut came = 0;
        loop {
            match self.socket.recv(buffer) {
                Ok(length) => {
                    let datagram = &buffer[..length];
                    came += carried(datagram);
                    self.caller.handle(Input::Received(datagram), now).map_err(|error| error.to_string())?;
                    self.say(now, tell)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A server that is not there yet, or no more: its silence is what counts.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(format!("a socket failed: {error}")),
            }
        }
        if self.caller.deadline().is_some_and(|deadline| deadline <= now) {
            self.caller.handle(Input::Timeout, now).map_err(|error| error.to_string())?;
        }
        self.say(now, tell)?;
        Ok(came)
    }

    /// As of any line.
    pub fn carry(&mut self, waiting: &mut BytesMut, ends: bool, now: Now) -> Result<usize, String> {
        let whole = if ends { waiting.len() } else { waiting.len() / MESSAGE_BYTES * MESSAGE_BYTES };
        let mut carried = 0;
        while carried < whole {
            let bytes = (whole - carried).min(self.caller.room(now));
            if bytes == 0 {
                break;
            }
            carried += self.caller.carry(&waiting.split_to(bytes).freeze(), &mut Shelf::default(), now);
            self.say(now, &mut |_| {})?;
        }
        Ok(carried)
    }

    /// As of any line.
    pub fn part(&mut self, now: Now) {
        // Nobody waits for an answer any more.
        let _ = self.caller.handle(Input::Shutdown, now);
        let _ = self.say(now, &mut |_| {});
    }

    fn say(&mut self, now: Now, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), String> {
        while let Some(output) = self.caller.poll() {
            match output {
                Output::Send(bytes) | Output::Share(bytes) => self.send(&bytes),
                Output::Datagrams { bytes, size } => {
                    if self.cut != size {
                        udp::cut(self.socket.as_fd(), size).map_err(|error| error.to_string())?;
                        self.cut = size;
                    }
                    let most = (SEND_BYTES_MAX / usize::from(size)).clamp(1, 64) * usize::from(size);
                    bytes.chunks(most.max(1)).for_each(|run| self.send(run));
                }
                Output::Event(Event::Frame(frame)) => tell(Heard::Frame(&frame)),
                Output::Event(event) => {
                    let answer = match event {
                        Event::Publish { .. } => Answer::Publishing,
                        Event::Play { .. } => Answer::Playing,
                        _ => continue,
                    };
                    let answered = self.caller.handle(Input::Answer(answer), now);
                    answered.map_err(|error| error.to_string())?;
                    tell(Heard::Granted);
                }
                Output::Ports(_) | Output::Packets(_) | Output::Datagram { .. } | Output::Address(_) => {}
                Output::Close => return Err(ENDED.to_owned()),
            }
        }
        Ok(())
    }

    /// What does not go is lost, as any datagram may be, and sent again when it is missed.
    fn send(&self, bytes: &[u8]) {
        let _ = self.socket.send(bytes);
    }
}

/// Bytes of the stream in a datagram. (draft-sharabayko-srt-01, 3: the first bit tells data from control)
fn carried(datagram: &[u8]) -> u64 {
    match datagram.first() {
        Some(first) if first & 0x80 == 0 => datagram.len().saturating_sub(HEAD_BYTES) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_engine::{datagram::Greeting, mpegts, srt};

    use crate::clip::{Clip, Playback};

    #[test]
    fn only_data_carries_a_stream() {
        assert_eq!(
            [carried(&[0; 1332]), carried(&[0x80; 40]), carried(&[0; 3]), carried(&[])],
            [1316, 0, 0, 0]
        );
    }

    /// A door with one session, as a server has it, for one caller.
    struct Door {
        socket: UdpSocket,
        session: Option<srt::Session>,
    }

    impl Door {
        /// Takes what has come; gives what it carried.
        fn work(&mut self, now: Now) -> u64 {
            let (limits, mut buffer, mut came) = (DoorLimits::default(), [0; 2048], 0);
            while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                let datagram = &buffer[..length];
                came += carried(datagram);
                if self.session.is_none() {
                    if let Greeting::Answer(answer) = srt::greet(datagram, from, &limits, now) {
                        self.socket.send_to(&answer, from).unwrap();
                        continue;
                    }
                    self.session = Some(srt::Session::new(&limits, now));
                }
                let session = self.session.as_mut().unwrap();
                session.handle(Input::Received(datagram), now).unwrap();
                while let Some(output) = session.poll() {
                    match output {
                        Output::Send(bytes) => drop(self.socket.send_to(&bytes, from).unwrap()),
                        Output::Event(Event::Publish { .. }) => {
                            session.handle(Input::Answer(Answer::Publishing), now).unwrap();
                        }
                        _ => {}
                    }
                }
            }
            came
        }
    }

    #[test]
    fn what_is_published_arrives_in_whole_messages() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let place = socket.local_addr().unwrap();
        let mut door = Door { socket, session: None };
        let target = Target::parse(&format!("srt://{place}/?streamid=publish:live/bench")).unwrap();
        let now = |turn: u64| Now(1_000_000_000 + turn * 5_000_000);
        let mut line = Own::call(&place.to_string(), target, true, now(0)).unwrap();
        let (mut wire, mut waiting) = ((mpegts::FORM.open)(), BytesMut::new());
        let mut playback = Playback::new(Clip::built_in());
        let first = playback.take(1);
        wire.header(playback.clip().opening(), &first, &mut waiting);
        wire.frame(&first, &mut waiting);
        let whole = waiting.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        assert!(whole > 4 * MESSAGE_BYTES && whole < waiting.len(), "{}", waiting.len());
        let (mut sent, mut came, mut buffer, mut granted) = (0, 0, [0; 2048], false);
        for turn in 0..400 {
            line.work(&mut buffer, now(turn), &mut |heard| granted |= matches!(heard, Heard::Granted))
                .unwrap();
            sent += line.carry(&mut waiting, false, now(turn)).unwrap();
            came += door.work(now(turn));
            if came == whole as u64 {
                break;
            }
        }
        assert!(granted);
        assert_eq!((sent, came), (whole, whole as u64));
        assert!(waiting.len() < MESSAGE_BYTES);
        let rest = waiting.len();
        assert_eq!(line.carry(&mut waiting, true, now(401)).unwrap(), rest);
        assert_eq!(door.work(now(401)), rest as u64);
        line.part(now(402));
        assert_eq!(door.work(now(402)), 0);
    }
}
