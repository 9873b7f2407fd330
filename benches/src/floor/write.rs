//! Fragments of recordings, written past the page cache: what a disk costs when nobody muxes.
//!
//! Each file gets a fragment at a steady pace, and the files' turns are spread evenly over it. A fragment is one aligned
//! write into room that was made ahead, as a shard's recordings are; nothing is forced to the disk. What is written are
//! bytes of no meaning. A file that has its share of the bound is replaced by a new one, so that every write goes to where
//! none was before, as a recording's do: writing again over what is there would cost less.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use shardcast_io::{
    clock, file,
    ring::{Completion, FileId, Ring, RingConfig},
};

use super::{SECOND, Seconds, bind};
use crate::units;

/// How the floor is to write.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the files go; it is made if it is missing
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: PathBuf,
    /// Files at once
    #[arg(long, value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=FILES_MAX))]
    pub files: u32,
    /// What each file gets per second
    #[arg(long, value_name = "RATE", default_value = "2Mbit", value_parser = units::bitrate)]
    pub bitrate: u64,
    /// How much time one write holds
    #[arg(long, value_name = "TIME", default_value = "900ms", value_parser = units::duration)]
    pub fragment: Duration,
    /// The most that all files together take
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = units::size)]
    pub most: u64,
    /// Let the files vanish with the process, however it ends: they lose their names at once
    #[arg(long)]
    pub remove: bool,
    /// Where it says by HTTP, under the name that shardcast uses, how many bytes it has written
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// What the floor has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Writes that have ended well.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes that failed, or for which there was no buffer because the disk is behind.
    pub missed: u64,
    /// Enters of the ring.
    pub enters: u64,
    /// Files that were begun.
    pub files: u64,
    /// Whether writes go past the page cache. Where the file system offers no O_DIRECT they do not.
    pub direct: bool,
}

/// Whose turn it is when: write number n of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turns {
    files: u64,
    fragment: u64,
    /// Fragments in one file before it is replaced.
    per_file: u64,
}

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Nanoseconds after the beginning.
    pub due: u64,
    /// Which file.
    pub file: usize,
    /// Which fragment of it.
    pub number: u64,
}

impl Turns {
    /// So many files, each with a fragment each `fragment` nanoseconds and with `per_file` of them in its life.
    pub fn new(files: u32, fragment: u64, per_file: u64) -> Turns {
        Turns { files: u64::from(files.max(1)), fragment: fragment.max(1), per_file: per_file.max(1) }
    }

    /// Turn number `n`.
    pub fn turn(&self, n: u64) -> Turn {
        let due = u128::from(n) * u128::from(self.fragment) / u128::from(self.files);
        Turn {
            due: u64::try_from(due).unwrap_or(u64::MAX),
            file: (n % self.files) as usize,
            number: n / self.files % self.per_file,
        }
    }
}

/// The floor, with its files made.
pub struct Writer {
    options: Options,
    files: Vec<file::Created>,
    paths: Vec<PathBuf>,
    metrics: Option<TcpListener>,
    block: u64,
    direct: bool,
}

impl Writer {
    /// Makes the files.
    ///
    /// # Errors
    /// A file cannot be made, the port is taken, or there is no room for one fragment in each.
    pub fn open(options: &Options) -> io::Result<Writer> {
        let metrics = options.metrics.map(bind).transpose()?;
        let path = |number| options.dir.join(format!("floor-{}-{number}", std::process::id()));
        let paths: Vec<PathBuf> = (0..options.files).map(path).collect();
        let files = paths.iter().map(|path| create(path, options.remove)).collect::<io::Result<Vec<_>>>()?;
        let block = files.iter().map(|file| u64::from(file.block)).max().unwrap_or(1);
        let direct = files.iter().all(|file| file.direct);
        let writer = Writer { options: options.clone(), files, paths, metrics, block, direct };
        if writer.fragment_bytes() > writer.share() {
            let words = format!("{} B are too few for a fragment in each of the files", options.most);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        Ok(writer)
    }

    /// Where it tells its metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Bytes of one write: what the bit rate makes of a fragment's time, rounded up to whole blocks.
    pub fn fragment_bytes(&self) -> u64 {
        let bytes =
            u128::from(self.options.bitrate) * self.options.fragment.as_nanos() / u128::from(8 * SECOND);
        u64::try_from(bytes).unwrap_or(u64::MAX / 2).max(1).next_multiple_of(self.block)
    }

    /// What one file may take.
    fn share(&self) -> u64 {
        self.options.most / u64::from(self.options.files.max(1))
    }

    /// Writes until `stop` is set, which it looks at once a second at least.
    ///
    /// # Errors
    /// The ring failed, or a file that took another's place could not be made.
    pub fn run(self, stop: &AtomicBool, mut report: impl FnMut(&Report)) -> io::Result<()> {
        let fragment = u64::try_from(self.options.fragment.as_nanos()).unwrap_or(u64::MAX);
        let (bytes, share) = (self.fragment_bytes(), self.share());
        let turns = Turns::new(self.options.files, fragment, share / bytes);
        let mut ring = Ring::new(&RingConfig::default())?;
        if let Some(listener) = self.metrics {
            ring.listen(listener, METRICS);
        }
        let mut shelf = Shelf {
            files: Vec::new(),
            paths: self.paths,
            remove: self.options.remove,
            bytes,
            room: share / bytes * bytes,
            report: Report { direct: self.direct, ..Report::default() },
        };
        for file in self.files {
            shelf.add(file, &mut ring)?;
        }
        let began = clock::monotonic();
        let (mut seconds, mut next) = (Seconds::from(0), 0);
        while !stop.load(Ordering::Relaxed) {
            let elapsed = clock::monotonic() - began;
            while turns.turn(next).due <= elapsed {
                let Turn { file, number, .. } = turns.turn(next);
                shelf.write(file, number, number == 0 && next >= turns.files, &mut ring)?;
                next += 1;
            }
            ring.submit()?;
            while let Some(completion) = ring.next() {
                shelf.complete(completion, &mut ring);
            }
            let elapsed = clock::monotonic() - began;
            if seconds.passed(elapsed) {
                report(&shelf.report(&ring));
            }
            // Nobody waits for a write's end, so it is looked for when something is to be done anyway.
            let pause = turns.turn(next).due.min(seconds.next).saturating_sub(elapsed);
            std::thread::sleep(Duration::from_nanos(pause).clamp(TICK, REST_MAX));
        }
        Ok(())
    }
}

/// The files that are being written.
struct Shelf {
    files: Vec<Open>,
    paths: Vec<PathBuf>,
    remove: bool,
    /// Bytes of one write.
    bytes: u64,
    /// What all writes of one file take.
    room: u64,
    report: Report,
}

struct Open {
    id: FileId,
    /// Room that was asked for, from the file's start.
    allocated: u64,
}

impl Shelf {
    fn add(&mut self, file: file::Created, ring: &mut Ring) -> io::Result<()> {
        let file = self.take_in(file, ring)?;
        self.files.push(file);
        Ok(())
    }

    fn take_in(&mut self, file: file::Created, ring: &mut Ring) -> io::Result<Open> {
        let id = ring.add_file(file.file).map_err(|(_, error)| error)?;
        let allocated = ALLOCATION_BYTES.min(self.room);
        ring.allocate(id, 0, allocated, ALLOCATION);
        self.report.files += 1;
        Ok(Open { id, allocated })
    }

    /// Writes a file's fragment, into a new file if the old one is full.
    fn write(&mut self, place: usize, number: u64, replace: bool, ring: &mut Ring) -> io::Result<()> {
        if replace {
            // A disk that has not taken the last fragment yet, a whole fragment's time later, keeps up with nothing.
            if ring.file_operations(self.files[place].id) > 0 {
                return Err(io::Error::other("the disk is behind by more than a fragment"));
            }
            drop(ring.take_file(self.files[place].id));
            if !self.remove {
                fs::remove_file(&self.paths[place])?;
            }
            self.files[place] = self.take_in(create(&self.paths[place], self.remove)?, ring)?;
        }
        let Some(mut buffer) = ring.buffer(self.bytes as usize) else {
            self.report.missed += 1;
            return Ok(());
        };
        // A buffer still holds what was last written, so as a rule there is nothing to do. Blocks of zeros would let some
        // disks write nothing.
        let content = &mut buffer[..self.bytes as usize];
        if content.first() != Some(&CONTENT) || content.last() != Some(&CONTENT) {
            content.fill(CONTENT);
        }
        let file = &mut self.files[place];
        let offset = number * self.bytes;
        let end = offset + self.bytes;
        if end + ALLOCATION_BYTES / 2 > file.allocated && file.allocated < self.room {
            let from = file.allocated;
            file.allocated = (end.next_multiple_of(ALLOCATION_BYTES) + ALLOCATION_BYTES).min(self.room);
            ring.allocate(file.id, from, file.allocated - from, ALLOCATION);
        }
        ring.write(file.id, buffer, self.bytes as usize, offset, FRAGMENT);
        Ok(())
    }

    fn complete(&mut self, completion: Completion, ring: &mut Ring) {
        match completion {
            Completion::Written { result: Err(_), .. } => self.report.missed += 1,
            // Somebody wants the metrics, whatever it says.
            Completion::Accepted { socket, .. } => {
                if let Ok(id) = ring.add(socket) {
                    ring.receive(id);
                }
            }
            Completion::Received { socket, .. } if !ring.is_sending(socket) => {
                let bytes = ring.stats().write_bytes;
                let page = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n\
                     # TYPE {METRIC} counter\n{METRIC} {bytes}\n"
                );
                ring.send(socket, Bytes::from(page));
            }
            Completion::Sent { socket, .. } | Completion::ReceiveEnded { socket, .. } => ring.close(socket),
            // Room that could not be made is no fault yet: the write itself will say.
            _ => {}
        }
    }

    fn report(&self, ring: &Ring) -> Report {
        let stats = ring.stats();
        Report { writes: stats.writes, bytes: stats.write_bytes, enters: stats.enters, ..self.report }
    }
}

fn create(path: &Path, remove: bool) -> io::Result<file::Created> {
    let created = file::create(path)?;
    if remove {
        fs::remove_file(path)?;
    }
    Ok(created)
}

/// The tokens of the ring's operations on files.
const ALLOCATION: u64 = 0;
const FRAGMENT: u64 = 1;
/// The listener's token.
const METRICS: u64 = 0;
/// As shardcast calls it, so that both are read alike.
const METRIC: &str = "shardcast_recorded_bytes_total";
/// Steps in which room is made ahead of the writer, as in a shard.
const ALLOCATION_BYTES: u64 = 16 << 20;
/// What is written.
const CONTENT: u8 = 0x5a;
/// The shortest sleep: with many files, several fragments leave together, as on a shard's tick.
const TICK: Duration = Duration::from_millis(4);
/// The longest: whoever asks for the metrics does not wait for ever.
const REST_MAX: Duration = Duration::from_millis(100);
/// What the ring's own table holds.
const FILES_MAX: i64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_evenly_and_every_file_gets_its_rate() {
        let turns = Turns::new(128, 900_000_000, 3);
        let mut last = [None; 128];
        for n in 0..128 * 7 {
            let turn = turns.turn(n);
            assert!(turn.due.abs_diff(n * 7_031_250) < 128, "{turn:?}");
            if let Some((due, number)) = last[turn.file].replace((turn.due, turn.number)) {
                assert_eq!(turn.due - due, 900_000_000);
                assert_eq!(turn.number, (number + 1) % 3);
            }
        }
        assert!(last.iter().all(Option::is_some));
    }

    #[test]
    fn turns_do_not_drift_in_a_year() {
        let year = 365 * 86_400 * SECOND;
        let turns = Turns::new(7, 1_000_000_007, 1000);
        let n = 7 * (year / 1_000_000_007);
        assert_eq!(turns.turn(n).due, year / 1_000_000_007 * 1_000_000_007);
    }
}
