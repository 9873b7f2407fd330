//! Rules about segments of MPEG-TS.

use std::collections::BTreeMap;

use shardcast_engine::{media::Frame, mpegts::Demuxer, session::Event};

use super::{Facts, playlist::Segment};

/// Bytes of a packet. (ISO/IEC 13818-1, 2.4.3.2)
const PACKET_BYTES: usize = 188;
/// What a decimal is rounded by, and a tick of 90 kHz, in nanoseconds.
const ROUNDING: u64 = 12_000;

/// A segment as it is read by itself.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// When its first picture is decoded, or its first sound where there are no pictures, nanoseconds. Why not, where nobody can
    /// begin with it.
    start: Result<i64, &'static str>,
    /// `continuity_counter` of the packet that stood before its first, and of its last, by PID.
    counters: BTreeMap<u16, (u8, u8)>,
}

/// Reads a segment.
pub(super) fn run(bytes: &[u8]) -> Result<Run, String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(PACKET_BYTES) {
        return Err(format!("{} bytes are no packets", bytes.len()));
    }
    let packets = bytes.chunks(PACKET_BYTES);
    let pid = |packet: &[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
    let begins: Vec<u16> = packets.clone().take(2).map(pid).collect();
    // The map stands where every server puts it; which PID that is, the association says.
    if begins.first() != Some(&0) || begins.len() < 2 {
        return Err(format!("it begins with packets of {begins:?} and not with its tables"));
    }
    let mut counters = BTreeMap::new();
    for packet in packets {
        if packet[0] != 0x47 {
            return Err("a packet does not begin where one should".to_owned());
        }
        // A packet without payload repeats the counter of the one before it.
        let (counter, step) = (packet[3] & 15, packet[3] >> 4 & 1);
        let before = counter.wrapping_sub(step) & 15;
        let (_, last) = counters.entry(pid(packet)).or_insert((before, before));
        if *last != before {
            return Err(format!("{:#x} has {counter} after {last}", pid(packet)));
        }
        *last = counter;
    }
    let mut frames: Vec<Frame> = Vec::new();
    let mut emit = |event| {
        if let Event::Frame(frame) = event {
            frames.extend(frame.is_media().then_some(frame));
        }
    };
    let mut demuxer = Demuxer::default();
    demuxer.push(bytes, &mut emit);
    demuxer.finish(&mut emit);
    let start = match frames.iter().find(|frame| frame.is_video()).or(frames.first()) {
        None => Err("it has no frames"),
        Some(first) if first.is_video() && !first.is_key() => Err("nobody can begin with it"),
        Some(first) => Ok(first.dts.as_nanos()),
    };
    Ok(Run { start, counters })
}

pub(super) fn form(facts: &Facts<'_>) -> Vec<String> {
    let why = |run: &Result<Run, String>| match run {
        Err(why) => Some(why.clone()),
        // Where no key frame comes for long, a segment begins without one.
        Ok(run) if facts.complete => run.start.err().map(str::to_owned),
        Ok(_) => None,
    };
    let runs = facts.media.runs.iter().filter_map(|(uri, run)| Some((uri, why(run)?)));
    runs.map(|(uri, why)| format!("{uri}: {why}")).collect()
}

/// Segments that follow each other, as they are.
fn pairs<'a, 'b>(
    facts: &'b Facts<'a>,
) -> impl Iterator<Item = ((&'b Segment<'a>, &'b Run), (&'b Segment<'a>, &'b Run))> {
    let run = |segment: &Segment<'a>| facts.media.runs.get(segment.uri?)?.as_ref().ok();
    facts.now.segments.windows(2).filter_map(move |pair| {
        let [one, next] = pair else { return None };
        Some(((one, run(one)?), (next, run(next)?)))
    })
}

/// After so many nanoseconds the 33 bits of a time stamp begin anew. (ISO/IEC 13818-1, 2.4.3.7)
const WRAP: i64 = (1 << 33) * 100_000 / 9;

pub(super) fn length(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    // Behind a discontinuity a segment may begin with any frame, and with pictures that are not read without a key frame.
    let whole = pairs(facts).filter(|((one, _), (next, _))| !one.discontinuity && !next.discontinuity);
    // How much later than its place the segment before began: where one ends, a publisher may have made nothing for a while.
    let mut late = None;
    for ((one, run), (next, follows)) in whole {
        let (Ok(start), Ok(end)) = (run.start, follows.start) else { continue };
        let said = one.duration.unwrap_or(0);
        let is = (end - start).rem_euclid(WRAP).unsigned_abs();
        let before = late.filter(|(number, _)| *number == one.number).map_or(u64::MAX, |(_, late)| late);
        let place = is.saturating_add(before).saturating_sub(said);
        late = Some((next.number, place));
        let is_wrong = if facts.complete {
            is.abs_diff(said) > ROUNDING
        } else {
            is.saturating_add(before).saturating_add(ROUNDING) < said
        };
        if is_wrong {
            found.push(format!("{} has {said} ns, and {} begins {is} ns later", one.number, next.number));
        }
    }
    found
}

pub(super) fn continuity(facts: &Facts<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for ((_, run), (next, follows)) in pairs(facts).filter(|(_, (next, _))| !next.discontinuity) {
        for (pid, (_, last)) in &run.counters {
            match follows.counters.get(pid) {
                Some((before, _)) if before != last => {
                    found.push(format!("{pid:#x} of {} goes on after {before}, not {last}", next.number));
                }
                _ => {}
            }
        }
    }
    found
}
