//! The same datagrams to the same addresses by a bare batched ring: what sending a stream by UDP costs when nobody decides anything.
//!
//! Nothing is published. The floor has the packets of RTP that the clip is muxed into, by their sizes: [`Schedule`]. Packets of one size
//! that follow on each other in a flush, and a shorter one behind them, are a run: one send, which the kernel cuts (UDP_SEGMENT). At each flush it
//! sends every address the runs that are due, one after the other. Whoever has sent it anything is an address; nobody leaves, as nobody
//! says so. There are no reports (RTCP), and all tracks go to one port.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use shardcast_engine::rtsp::FORMS;
use shardcast_io::{
    clock,
    ring::{Completion, Ring, RingConfig, SocketId},
    udp,
};

use super::{SECOND, SENDS_PER_ENTER, Seconds};
use crate::{
    clip::{Clip, Playback},
    units,
};

/// How the floor is to send.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where viewers send something; whatever it is, they get the datagrams
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// What each viewer gets per second
    #[arg(long, value_name = "RATE", default_value = "4Mbit", value_parser = units::bitrate)]
    pub bitrate: u64,
    /// How often what is due is sent
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = units::duration)]
    pub flush: Duration,
}

/// Packets that the kernel cuts out of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// When its last frame is there, nanoseconds from a round's beginning.
    pub at: u64,
    /// Bytes of each packet, but for the last, which may have less.
    pub size: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// The runs of one round of a clip.
#[derive(Clone, Debug)]
pub struct Schedule {
    runs: Vec<Run>,
    period: u64,
}

impl Schedule {
    /// What a clip is muxed into for RTSP, sent each `flush` nanoseconds.
    pub fn of_clip(clip: &Clip, flush: u64) -> Schedule {
        let mut playback = Playback::new(clip.clone());
        let (mut wire, mut packets, mut runs) = ((FORMS[2].open)(), BytesMut::new(), Vec::new());
        let mut last = 0_u64;
        for place in 0..clip.parts().len() {
            let at = playback.due();
            let frame = playback.take(1);
            if place == 0 {
                wire.header(clip.opening(), &frame, &mut packets);
                packets.clear();
            } else if at.div_ceil(flush) != last.div_ceil(flush) {
                runs.extend(runs_of(&packets, last));
                packets.clear();
            }
            wire.frame(&frame, &mut packets);
            last = at;
        }
        runs.extend(runs_of(&packets, last));
        Schedule { runs, period: clip.period_millis().unsigned_abs() * 1_000_000 }
    }

    /// Runs that the stream has made, this long after its beginning.
    fn due(&self, elapsed: u64) -> u64 {
        let (rounds, into) = (elapsed / self.period, elapsed % self.period);
        rounds * self.runs.len() as u64 + self.runs.partition_point(|run| run.at <= into) as u64
    }

    /// The run of this number.
    fn run(&self, number: u64) -> Run {
        self.runs[(number % self.runs.len() as u64) as usize]
    }
}

/// The runs in packets that stand behind heads of four bytes: a mark, the channel, the length. Those of control information, on the odd
/// channels, are left out.
fn runs_of(mut packets: &[u8], at: u64) -> Vec<Run> {
    // Bytes of the packets, how many, the channel, and whether a shorter one has ended it.
    let mut runs: Vec<(Run, usize, u8, bool)> = Vec::new();
    while let [_, channel, high, low, rest @ ..] = packets {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        packets = rest.get(length..).unwrap_or_default();
        if channel % 2 == 1 {
            continue;
        }
        match runs.last_mut() {
            Some((run, count, of, ended))
                if of == channel
                    && !*ended
                    && length <= run.size
                    && *count < SEGMENTS_MAX
                    && run.bytes + length <= SEND_BYTES_MAX =>
            {
                run.bytes += length;
                *count += 1;
                *ended = length < run.size;
            }
            _ => runs.push((Run { at, size: length, bytes: length }, 1, *channel, false)),
        }
    }
    runs.into_iter().map(|(run, ..)| run).collect()
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Sends that have ended.
    pub sends: u64,
    /// Bytes that the kernel took.
    pub bytes: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Viewers so far.
    pub viewers: u64,
    /// Viewers who were not done with the last flush when the next came.
    pub behind: u64,
}

/// The floor, with its socket.
pub struct Sender {
    socket: UdpSocket,
    schedule: Schedule,
    flush: u64,
}

impl Sender {
    /// Takes its port; viewers are sent to once it runs.
    ///
    /// # Errors
    /// The port is taken, or the clip has a higher rate by itself.
    pub fn open(options: &Options) -> io::Result<Sender> {
        let clip = Clip::built_in().at_bitrate(options.bitrate);
        let clip = clip.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        udp::ensure_free(options.listen)?;
        let flush = u64::try_from(options.flush.as_nanos()).unwrap_or(u64::MAX).max(1);
        Ok(Sender { socket: udp::bind(options.listen)?, schedule: Schedule::of_clip(&clip, flush), flush })
    }

    /// Where viewers send something.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends until `stop` is set, which it looks at once a second at least.
    ///
    /// # Errors
    /// The ring failed.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let Sender { socket, schedule, flush } = self;
        let mut ring = Ring::new(&RingConfig::default())?;
        ring.receive_datagrams(socket, VIEWERS)?;
        let mut crowd = Crowd {
            schedule,
            viewers: Vec::new(),
            known: HashMap::new(),
            places: HashMap::new(),
            ready: VecDeque::new(),
            head: 0,
            content: Bytes::from(vec![0x5a; SEND_BYTES_MAX]),
            behind: 0,
        };
        let began = clock::monotonic();
        let (mut seconds, mut next) = (Seconds::from(0), 0);
        while !stop.load(Ordering::Relaxed) {
            let elapsed = clock::monotonic() - began;
            if elapsed >= next {
                crowd.flush(elapsed);
                next = (elapsed / flush + 1) * flush;
            }
            crowd.pump(&mut ring)?;
            let elapsed = clock::monotonic() - began;
            if seconds.passed(elapsed) {
                report(&crowd.report(&ring));
                ring.resume_datagrams(VIEWERS);
            }
            let sleep = next.min(seconds.next).saturating_sub(elapsed);
            ring.wait(1, Duration::from_nanos(sleep.min(SECOND)))?;
        }
        Ok(())
    }
}

/// Everyone who watches.
struct Crowd {
    schedule: Schedule,
    viewers: Vec<Viewer>,
    /// Who has said something already.
    known: HashMap<SocketAddr, usize>,
    /// Viewers by their place in the ring.
    places: HashMap<SocketId, usize>,
    /// Those who get a send next.
    ready: VecDeque<usize>,
    /// Runs that the stream had made at the last flush.
    head: u64,
    /// What is sent: its beginning, as long as the send is.
    content: Bytes,
    behind: u64,
}

struct Viewer {
    id: SocketId,
    /// The run that it gets next.
    cursor: u64,
    is_sending: bool,
}

impl Crowd {
    fn flush(&mut self, elapsed: u64) {
        self.head = self.schedule.due(elapsed);
        for (place, viewer) in self.viewers.iter().enumerate() {
            match viewer.is_sending {
                true => self.behind += 1,
                false if viewer.cursor < self.head => self.ready.push_back(place),
                false => {}
            }
        }
    }

    /// Sends to all who are ready, and takes what the ring says, until neither has more.
    fn pump(&mut self, ring: &mut Ring) -> io::Result<()> {
        loop {
            let mut sends = 0;
            while sends < SENDS_PER_ENTER
                && let Some(place) = self.ready.pop_front()
            {
                self.send(place, ring);
                sends += 1;
            }
            ring.submit()?;
            let mut completions = 0;
            while let Some(completion) = ring.next() {
                completions += 1;
                self.complete(completion, ring);
            }
            if sends == 0 && completions == 0 && ring.pending() == 0 {
                return Ok(());
            }
        }
    }

    fn send(&mut self, place: usize, ring: &mut Ring) {
        let viewer = &mut self.viewers[place];
        let run = self.schedule.run(viewer.cursor);
        viewer.is_sending = true;
        ring.send_datagrams(viewer.id, self.content.slice(..run.bytes), run.size);
    }

    fn complete(&mut self, completion: Completion, ring: &mut Ring) {
        match completion {
            Completion::Datagram { datagram, .. } => {
                let from = datagram.from;
                if !self.known.contains_key(&from)
                    && let Ok(id) = ring.add_peer(VIEWERS, from)
                {
                    let place = self.viewers.len();
                    self.known.insert(from, place);
                    self.places.insert(id, place);
                    self.viewers.push(Viewer { id, cursor: self.head, is_sending: false });
                }
            }
            // What did not go is lost, as any datagram may be.
            Completion::Sent { socket, .. } => {
                let Some(place) = self.places.get(&socket).copied() else { return };
                let viewer = &mut self.viewers[place];
                (viewer.is_sending, viewer.cursor) = (false, viewer.cursor + 1);
                if viewer.cursor < self.head {
                    self.ready.push_back(place);
                }
            }
            _ => {}
        }
    }

    fn report(&self, ring: &Ring) -> Report {
        let stats = ring.stats();
        Report {
            sends: stats.sends,
            bytes: stats.send_bytes,
            enters: stats.enters,
            viewers: self.viewers.len() as u64,
            behind: self.behind,
        }
    }
}

/// The socket's token.
const VIEWERS: u64 = 0;
/// Packets in one send, and its bytes, as a ring sends them.
const SEGMENTS_MAX: usize = 64;
const SEND_BYTES_MAX: usize = 65_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(packets: &[(u8, usize)]) -> Vec<u8> {
        let packet = |(channel, length): &(u8, usize)| {
            let head = [b'$', *channel, (length >> 8) as u8, *length as u8];
            [&head[..], &vec![7; *length]].concat()
        };
        packets.iter().flat_map(packet).collect()
    }

    #[test]
    fn packets_of_one_size_and_a_shorter_one_are_a_run() {
        let found = |packets: &[(u8, usize)]| -> Vec<(usize, usize)> {
            runs_of(&framed(packets), 0).into_iter().map(|run| (run.size, run.bytes)).collect()
        };
        assert_eq!(found(&[(0, 100), (0, 100), (0, 40), (0, 40)]), [(100, 240), (40, 40)]);
        assert_eq!(found(&[(0, 40), (0, 100), (2, 100), (2, 100)]), [(40, 40), (100, 100), (100, 200)]);
        assert_eq!(found(&[(0, 100), (1, 28), (0, 100)]), [(100, 200)], "reports are left out");
        assert_eq!(found(&[(0, 10); 65]), [(10, 640), (10, 10)]);
        assert_eq!(found(&[(0, 1400); 47]), [(1400, 46 * 1400), (1400, 1400)]);
    }

    #[test]
    fn a_clip_is_sent_at_its_rate_and_round_after_round() {
        let clip = Clip::built_in().at_bitrate(4_000_000).unwrap();
        let schedule = Schedule::of_clip(&clip, 40_000_000);
        let bytes: usize = schedule.runs.iter().map(|run| run.bytes).sum();
        // Heads of packets are about one in a hundred.
        let payload = clip.bytes() as usize;
        assert!((payload..payload + payload / 40).contains(&bytes), "{bytes} for {payload}");
        assert!(schedule.runs.iter().all(|run| run.size <= 1400 && run.bytes > 0));
        assert!(schedule.runs.is_sorted_by_key(|run| run.at));
        let round = schedule.runs.len() as u64;
        assert_eq!(
            [schedule.due(schedule.period - 1), schedule.due(2 * schedule.period - 1)],
            [round, 2 * round]
        );
        assert_eq!(schedule.run(round + 5), schedule.run(5));
        // Sound that is alone between two pictures goes along with its like.
        let alone = Schedule::of_clip(&clip, 1);
        assert_eq!(alone.runs.iter().map(|run| run.bytes).sum::<usize>(), bytes);
        assert!(alone.runs.len() > schedule.runs.len() && alone.due(1 << 30) > schedule.due(1 << 30));
    }
}
