//! What a viewer that parses makes of what it is sent: whole pictures, in order, from a key frame on, times that rise.

use std::time::Duration;

use shardcast_engine::{
    media::{Frame, Payload, TrackId},
    time::Now,
};

use crate::{histogram::Histogram, outcome::Checks, stamp::Stamp};

/// What all judges found together.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What was wrong, and how many pictures were looked at.
    pub checks: Checks,
    /// Latencies since the window began.
    pub latency: Histogram,
    /// Latencies since the last second ended.
    pub second: Histogram,
}

/// One viewer's.
#[derive(Debug)]
pub struct Judge {
    joined: Now,
    number: Option<u64>,
    /// The last decoding time of picture and sound.
    times: [Option<i64>; 2],
    key: Option<(Now, usize)>,
}

impl Judge {
    /// Of a viewer that began to connect at `joined`.
    pub fn new(joined: Now) -> Judge {
        Judge { joined, number: None, times: [None; 2], key: None }
    }

    /// When its first key frame was there whole, and its bytes.
    pub fn first_key(&self) -> Option<(Now, usize)> {
        self.key
    }

    /// Looks at a frame that was there whole at `now`.
    pub fn frame(&mut self, frame: &Frame, now: Now, findings: &mut Findings) {
        let checks = &mut findings.checks;
        let track = match frame.payload {
            Payload::Video { .. } => 0,
            Payload::Audio { .. } => 1,
            // Times need not go on where the server says that what follows is something else.
            Payload::Discontinuity => return self.times = [None; 2],
            _ => return,
        };
        let time = frame.dts.as_millis();
        checks.time_backwards += u64::from(self.times[track].is_some_and(|last| time < last));
        self.times[track] = Some(time);
        let Payload::Video { data, key, .. } = &frame.payload else { return };
        debug_assert!(frame.track == TrackId::VIDEO);
        checks.pictures += 1;
        let Some((stamp, whole)) = Stamp::read(data) else {
            checks.damaged += 1;
            return;
        };
        checks.damaged += u64::from(!whole);
        match self.number {
            None => checks.began_without_key += u64::from(!key),
            Some(last) if stamp.number <= last => checks.out_of_order += 1,
            Some(last) => {
                let missing = stamp.number - last - 1;
                checks.gaps += u64::from(missing > 0);
                checks.missing_pictures += missing;
            }
        }
        self.number = self.number.max(Some(stamp.number));
        if *key && self.key.is_none() {
            self.key = Some((now, data.len()));
        }
        // What was kept for joiners is old by nature.
        if stamp.sent > self.joined.0 {
            let latency = Duration::from_nanos(now.0.saturating_sub(stamp.sent));
            findings.latency.record(latency);
            findings.second.record(latency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Clip, Playback};

    fn frames(count: usize) -> Vec<Frame> {
        let mut playback = Playback::new(Clip::built_in());
        (0..count as u64).map(|index| playback.take(1_000_000 + index)).collect()
    }

    fn judged(frames: &[Frame]) -> Findings {
        let (mut judge, mut findings) = (Judge::new(Now(0)), Findings::default());
        for frame in frames {
            judge.frame(frame, Now(9_000_000), &mut findings);
        }
        findings.checks.viewers = 1;
        findings
    }

    #[test]
    fn a_stream_as_it_was_published_passes_and_its_latency_is_measured() {
        let findings = judged(&frames(500));
        assert!(findings.checks.passed(), "{:?}", findings.checks);
        assert_eq!(findings.latency.count(), findings.checks.pictures);
        assert!((findings.latency.quantile(0.5) - 8.0).abs() < 0.2);
    }

    #[test]
    fn every_fault_is_seen() {
        let all = frames(500);
        let pictures: Vec<usize> = (0..all.len()).filter(|index| all[*index].is_video()).collect();
        let mut holed = all.clone();
        holed.drain(pictures[30]..pictures[32]);
        let checks = judged(&holed).checks;
        assert_eq!((checks.gaps, checks.missing_pictures, checks.out_of_order), (1, 2, 0));

        let mut doubled = all.clone();
        doubled.insert(pictures[30], all[pictures[29]].clone());
        assert_eq!(judged(&doubled).checks.out_of_order, 1);

        assert_eq!(judged(&all[pictures[3]..]).checks.began_without_key, 1);

        let mut damaged = all.clone();
        if let Payload::Video { data, .. } = &mut damaged[pictures[5]].payload {
            let mut bytes = data.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            *data = bytes.into();
        }
        assert_eq!(judged(&damaged).checks.damaged, 1);

        let mut back = all;
        back[pictures[9]].dts.ticks -= 500;
        assert_eq!(judged(&back).checks.time_backwards, 1);
        let mut announced = back[pictures[9]].clone();
        announced.payload = Payload::Discontinuity;
        back.insert(pictures[9], announced);
        assert_eq!(judged(&back).checks.time_backwards, 0);
    }
}
