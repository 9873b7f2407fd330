//! A line by a socket of the system's libsrt, which has threads of its own that send, acknowledge and ask for what is missing.

use std::net::ToSocketAddrs;

use bytes::{Buf as _, BytesMut};
use shardcast_engine::{limits::DoorLimits, srt::Target, time::Now};
use shardcast_io::libsrt::{Call, Socket, Standing};

use super::{ENDED, Heard, MESSAGE_BYTES};
use crate::player::ts;

/// A line of libsrt.
pub struct Library {
    socket: Socket,
    connected: bool,
    /// What takes the stream apart, for as long as somebody looks into it.
    reader: Option<ts::Reader>,
    /// Packets that had been lost when that was looked at last.
    lost: u64,
}

impl Library {
    /// Calls `address`.
    ///
    /// # Errors
    /// There is no way there, or libsrt takes no such call.
    pub fn call(address: &str, target: &Target) -> Result<Library, String> {
        let call = Call {
            stream_id: target.stream_id.clone(),
            latency: target.latency,
            // As our own machine has.
            patience: DoorLimits::default().handshake,
            passphrase: target.passphrase.clone(),
            key_length: target.key_length,
        };
        let socket = address.to_socket_addrs().and_then(|mut places| {
            let place = places.next().ok_or(std::io::ErrorKind::NotFound)?;
            Socket::call(place, &call)
        });
        let socket = socket.map_err(|error| format!("{address}: {error}"))?;
        Ok(Library { socket, connected: false, reader: Some(ts::Reader::default()), lost: 0 })
    }

    /// As of any line.
    pub fn work(
        &mut self,
        buffer: &mut [u8],
        now: Now,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<u64, String> {
        match self.socket.standing() {
            Standing::Calling => return Ok(0),
            Standing::Over if !self.connected => {
                return Err(format!(
                    "refused there or not answered: libsrt's reason {}",
                    self.socket.reason()
                ));
            }
            Standing::Connected if !self.connected => {
                self.connected = true;
                tell(Heard::Granted);
            }
            Standing::Connected | Standing::Over => {}
        }
        let mut came = 0;
        while self.socket.has_something() {
            match self.socket.receive(buffer) {
                Ok(Some(length)) => {
                    came += length as u64;
                    self.read(&buffer[..length], now, tell)?;
                }
                Ok(None) => break,
                Err(_) => return Err(ENDED.to_owned()),
            }
        }
        Ok(came)
    }

    fn read(&mut self, message: &[u8], now: Now, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let read = reader.push(message, now, &mut |frame, _| tell(Heard::Frame(frame)));
        let Err(why) = read else { return Ok(()) };
        // What a hole has left of a frame is none, and no fault of its sender: the pictures that are missing are told by their numbers.
        let lost = self.socket.stats().map_or(0, |stats| stats.lost);
        if lost == self.lost {
            return Err(why);
        }
        self.lost = lost;
        self.reader = Some(ts::Reader::default());
        Ok(())
    }

    /// As of any line.
    pub fn look_no_more(&mut self) {
        self.reader = None;
    }

    /// As of any line.
    pub fn carry(&mut self, waiting: &mut BytesMut, ends: bool) -> Result<usize, String> {
        let mut carried = 0;
        while self.connected && (waiting.len() >= MESSAGE_BYTES || ends && !waiting.is_empty()) {
            let bytes = waiting.len().min(MESSAGE_BYTES);
            match self.socket.send(&waiting[..bytes]) {
                Ok(true) => waiting.advance(bytes),
                // It has no room now.
                Ok(false) => break,
                Err(_) => return Err(ENDED.to_owned()),
            }
            carried += bytes;
        }
        Ok(carried)
    }

    /// As of any line.
    pub fn is_sent(&self) -> bool {
        self.socket.unacknowledged() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Instant};

    use shardcast_engine::{media::Frame, mpegts};
    use shardcast_io::libsrt::{Epoll, Listener};

    use super::*;
    use crate::clip::{Clip, Playback};

    /// Looks until there is something, for a while that no machine needs.
    fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed().as_secs() < 30, "it does not come");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// A listener of libsrt that lets in whoever says what it should; a line to it and its other end.
    fn line(stream_id: &str) -> Result<(Library, Socket, Listener), String> {
        let listener = Listener::open((Ipv4Addr::LOCALHOST, 0).into(), &Epoll::new(1).unwrap(), |caller| {
            if caller.stream_id.ends_with(b":live/bench") { Ok(()) } else { Err(1404) }
        });
        let listener = listener.unwrap();
        let address = listener.socket().address().unwrap().to_string();
        let target = Target::parse(&format!("srt://{address}?streamid={stream_id}&latency=1000")).unwrap();
        let mut line = Library::call(&address, &target)?;
        let mut granted = false;
        while !granted {
            line.work(&mut [0; 2048], Now(0), &mut |heard| granted |= matches!(heard, Heard::Granted))?;
        }
        Ok((line, wait_for(|| listener.accept()).0, listener))
    }

    fn clip(frames: usize) -> (Vec<Frame>, BytesMut) {
        let (mut wire, mut bytes) = ((mpegts::FORM.open)(), BytesMut::new());
        let mut playback = Playback::new(Clip::built_in());
        let frames: Vec<Frame> = (0..frames).map(|_| playback.take(1)).collect();
        wire.header(playback.clip().opening(), &frames[0], &mut bytes);
        frames.iter().for_each(|frame| wire.frame(frame, &mut bytes));
        (frames, bytes)
    }

    #[test]
    fn what_is_published_arrives_in_whole_messages_and_a_refusal_has_its_number() {
        assert!(line("publish:live/other").err().is_some_and(|why| why.ends_with("1404")));
        let (mut line, far, _listener) = line("publish:live/bench").unwrap();
        let (_, mut waiting) = clip(20);
        let all = waiting.clone();
        let (mut came, mut buffer) = (Vec::new(), [0; 2048]);
        for ends in [false, true] {
            let sent = line.carry(&mut waiting, ends).unwrap();
            assert!(if ends { waiting.is_empty() } else { sent % MESSAGE_BYTES == 0 });
            while came.len() < all.len() - waiting.len() {
                let length = wait_for(|| far.receive(&mut buffer).unwrap());
                came.extend_from_slice(&buffer[..length]);
            }
        }
        wait_for(|| line.is_sent().then_some(()));
        assert!(came == all && came.len() > 10 * MESSAGE_BYTES);
        drop(far);
        let ended = wait_for(|| line.work(&mut buffer, Now(0), &mut |_| {}).err());
        assert_eq!(ended, ENDED);
    }

    #[test]
    fn what_is_played_is_taken_apart_until_nobody_looks_into_it_any_more() {
        let (mut line, far, _listener) = line("read:live/bench").unwrap();
        let (frames, bytes) = clip(100);
        let (mut came, mut heard, mut buffer) = (0, 0, [0; 2048]);
        bytes.chunks(MESSAGE_BYTES).for_each(|message| assert!(far.send(message).unwrap()));
        wait_for(|| {
            let mut tell = |what: Heard<'_>| heard += usize::from(matches!(what, Heard::Frame(_)));
            came += line.work(&mut buffer, Now(0), &mut tell).unwrap();
            (came == bytes.len() as u64).then_some(())
        });
        // The last of each track may wait for what follows.
        assert!((frames.len() - 2..=frames.len()).contains(&heard), "{heard}");
        line.look_no_more();
        assert!(far.send(b"what no demuxer reads").unwrap());
        wait_for(|| {
            came += line.work(&mut buffer, Now(0), &mut |_| panic!("nobody looks")).unwrap();
            (came == bytes.len() as u64 + 21).then_some(())
        });
    }
}
