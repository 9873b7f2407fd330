//! What came out of a player, packet by packet, as ffmpeg reads it; and how it compares with what went in.

use std::{collections::HashMap, fmt, path::Path, process::Command, time::Duration};

use super::{
    process::{Process, run},
    program,
};

/// One packet of a file or of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it is decoded, in microseconds.
    pub dts: i64,
    /// When it is shown, in microseconds.
    pub pts: i64,
    /// Bytes.
    pub size: usize,
    /// MD5 of its bytes.
    pub hash: String,
}

/// The packets of a file or of a stream, per kind, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// Pictures.
    pub video: Vec<Packet>,
    /// Sound.
    pub audio: Vec<Packet>,
}

/// Packets that follow each other in the source, as one player got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Place in the source of the first.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl Packets {
    /// An ffmpeg that reads `source` and lists its packets on standard output, having changed them by `filters`.
    fn reading(ffmpeg: &str, source: &str, filters: &[&str]) -> Command {
        let mut command = Command::new(program(ffmpeg));
        // Without `copyinkf` ffmpeg would drop what stands before the first key frame, and so hide a fault of ours.
        command.args(["-nostdin", "-v", "warning", "-copyts", "-i", source, "-map", "0:v?", "-map", "0:a?"]);
        command.args(filters).args(["-c", "copy", "-copyinkf", "-f", "framehash", "-hash", "md5", "-"]);
        command
    }
    /// A player that lists the packets of `url` until the stream ends; give its output to [`parse`](Self::parse).
    pub fn player(ffmpeg: &str, url: &str) -> Process {
        Process::start("ffmpeg-player", &mut Self::reading(ffmpeg, url, &[]))
    }
    /// The packets of a file.
    ///
    /// # Panics
    /// When ffmpeg cannot read it.
    pub fn of_file(ffmpeg: &str, path: &Path) -> Self {
        Self::of_filtered_file(ffmpeg, path, &[])
    }
    /// The packets of a file, changed by bitstream filters.
    ///
    /// # Panics
    /// When ffmpeg cannot read it.
    pub fn of_filtered_file(ffmpeg: &str, path: &Path, filters: &[&str]) -> Self {
        let source = path.to_str().expect("paths of tests are ASCII");
        let read = run("ffmpeg", &mut Self::reading(ffmpeg, source, filters), Duration::from_secs(60));
        Self::parse(&read.output)
    }
    /// Reads the list that ffmpeg wrote.
    ///
    /// # Panics
    /// When it is no such list.
    pub fn parse(text: &str) -> Self {
        let mut packets = Packets::default();
        let mut bases: HashMap<&str, (i64, i64)> = HashMap::new();
        let mut kinds: HashMap<&str, &str> = HashMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("#tb ") {
                let (stream, base) = rest.split_once(": ").expect("#tb STREAM: NUMERATOR/DENOMINATOR");
                let (numerator, denominator) = base.split_once('/').expect("a fraction");
                bases.insert(
                    stream,
                    (numerator.parse().expect("a number"), denominator.parse().expect("a number")),
                );
            } else if let Some(rest) = line.strip_prefix("#media_type ") {
                let (stream, kind) = rest.split_once(": ").expect("#media_type STREAM: KIND");
                kinds.insert(stream, kind);
            } else if !line.starts_with('#') {
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let [stream, dts, pts, _duration, size, hash, ..] = fields.as_slice() else {
                    panic!("{line:?} is no line of a framehash")
                };
                let (numerator, denominator) = bases.get(stream).expect("a time base stands above");
                // To the nearest microsecond: 1/44100 and 1/90000 do not divide it.
                let time = |text: &str| {
                    let ticks: i64 = text.parse().expect("a number of ticks");
                    (ticks * numerator * 1_000_000 * 2 + denominator).div_euclid(denominator * 2)
                };
                let packet = Packet {
                    dts: time(dts),
                    pts: time(pts),
                    size: size.parse().expect("a size"),
                    hash: (*hash).to_owned(),
                };
                match kinds.get(stream) {
                    Some(&"video") => packets.video.push(packet),
                    Some(&"audio") => packets.audio.push(packet),
                    kind => panic!("a packet of {kind:?}"),
                }
            }
        }
        packets
    }

    /// Demands that these are all packets of `source`, byte for byte, each as far from the first as there, to the
    /// `tolerance` in microseconds (for containers whose clock does not divide a millisecond).
    ///
    /// # Panics
    /// With the first difference.
    pub fn assert_equal(&self, source: &Packets, tolerance: i64) {
        assert!(!source.video.is_empty() || !source.audio.is_empty(), "nothing would be compared");
        self.assert_run(source, tolerance);
        assert_eq!(self.video.len(), source.video.len(), "number of pictures");
        assert_eq!(self.audio.len(), source.audio.len(), "number of packets of sound");
    }

    /// Demands that these are packets of `source` that follow each other there, byte for byte, all shifted by one time.
    /// Says which.
    ///
    /// # Panics
    /// With the first difference.
    pub fn assert_run(&self, source: &Packets, tolerance: i64) -> (Option<Run>, Option<Run>) {
        let video = only_run("video", &self.video, &source.video);
        let audio = only_run("audio", &self.audio, &source.audio);
        let pair = |mine: &[Packet], theirs: &[Packet], run: Option<Run>| {
            let first = run.map_or(0, |run| run.first);
            mine.iter().cloned().zip(theirs.iter().skip(first).cloned()).collect::<Vec<_>>()
        };
        let pairs = pair(&self.video, &source.video, video)
            .into_iter()
            .chain(pair(&self.audio, &source.audio, audio))
            .collect::<Vec<_>>();
        let shift = pairs.first().map_or(0, |(mine, theirs)| mine.dts - theirs.dts);
        for (mine, theirs) in pairs {
            let off = (mine.dts - theirs.dts - shift).abs().max((mine.pts - theirs.pts - shift).abs());
            assert!(off <= tolerance, "{mine:?} is {theirs:?} of the source, but not {shift} us later");
        }
        (video, audio)
    }
}

/// Cuts what a player got into runs of packets that follow each other in the source.
///
/// # Panics
/// When a packet is not one of the source's, or comes again, or comes before one that it follows there.
pub fn runs(what: &str, mine: &[Packet], source: &[Packet]) -> Vec<Run> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, packet) in source.iter().enumerate() {
        places.entry(&packet.hash).or_default().push(place);
    }
    let mut runs: Vec<Run> = Vec::new();
    for (number, packet) in mine.iter().enumerate() {
        let known = places.get(packet.hash.as_str());
        let known =
            known.unwrap_or_else(|| panic!("{what} {number}, {packet:?}, is no packet of the source"));
        let next = runs.last().map_or(0, |run| run.first + run.count);
        // Two packets of sound may be alike: the next place in order is the one that is meant.
        let place = *known
            .iter()
            .find(|place| **place >= next)
            .unwrap_or_else(|| panic!("{what} {number}, {packet:?}, came twice or too late"));
        match runs.last_mut() {
            Some(run) if place == next => run.count += 1,
            _ => runs.push(Run { first: place, count: 1 }),
        }
    }
    runs
}

fn only_run(what: &str, mine: &[Packet], source: &[Packet]) -> Option<Run> {
    let runs = runs(what, mine, source);
    assert!(runs.len() <= 1, "{what}: packets are missing between {runs:?}");
    runs.first().copied()
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pictures, {} packets of sound", self.video.len(), self.audio.len())
    }
}
