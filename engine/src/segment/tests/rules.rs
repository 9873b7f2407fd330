//! What holds for every stream, whatever comes.

use super::*;

const BOTH: [Rendition; 2] = [Rendition::Video, Rendition::Audio];

impl Core {
    /// Demands all of it.
    pub(super) fn check(&self) {
        self.check_tracks();
        for rendition in BOTH {
            self.nothing_is_at_one_time_with_the_next_period(rendition);
        }
        self.segments_of_a_number_begin_together();
    }

    /// What holds for each track, however wild its times are.
    pub(super) fn check_tracks(&self) {
        for rendition in BOTH {
            self.numbers_go_on(rendition);
            self.parts_follow_each_other(rendition);
            self.times_are_told_from_the_beginning_of_the_period(rendition);
            self.segments_are_within_the_target(rendition);
            self.parts_are_as_long_as_they_may_be(rendition);
            self.samples_lie_in_their_part(rendition);
        }
    }

    /// Each part is close to what was promised, as it is where frames come at their pace.
    pub(super) fn check_parts(&self) {
        let most = self.terms().part;
        for rendition in BOTH {
            for part in self.parts(rendition) {
                let (lasts, place) = (part.lasts(), (part.segment, part.index));
                assert!(!part.gap && lasts <= most, "{rendition:?} {place:?}: {lasts:?} of {most:?}");
                assert!(
                    part.last || lasts * 100 >= most * 85,
                    "{rendition:?} {place:?}: {lasts:?} of {most:?}"
                );
            }
        }
    }

    fn numbers_go_on(&self, rendition: Rendition) {
        let segments = self.segments(rendition);
        let newest = segments.keys().last().copied();
        let mut before: Option<(u64, &Part)> = None;
        for (number, parts) in &segments {
            let first = &parts[0];
            if let Some((last, before)) = before {
                assert_eq!(*number, last + 1, "no segment is left out");
                assert_eq!(first.discontinuity, first.period != before.period, "{rendition:?} {number}");
                assert!(first.period >= before.period && first.init >= before.init);
                assert!(first.init == before.init || first.discontinuity, "{rendition:?} {number}");
            }
            before = Some((*number, first));
            for (index, part) in parts.iter().enumerate() {
                assert_eq!(part.index as usize, index);
                assert_eq!((part.period, part.init, part.rate), (first.period, first.init, first.rate));
                assert!(part.index == 0 || !part.discontinuity);
                let is_last = index + 1 == parts.len();
                assert!(part.last == is_last || Some(*number) == newest, "{rendition:?} {number}.{index}");
            }
        }
    }

    fn parts_follow_each_other(&self, rendition: Rendition) {
        for pair in self.parts(rendition).windows(2) {
            let [one, next] = pair else { continue };
            assert!(one.duration > 0 && next.duration > 0);
            let end = one.start + one.duration;
            assert!(
                next.discontinuity || next.start == end,
                "{rendition:?}: a hole between {one:?} and {next:?}"
            );
        }
    }

    fn times_are_told_from_the_beginning_of_the_period(&self, rendition: Rendition) {
        let mut origins: BTreeMap<u64, Origin> = BTreeMap::new();
        for part in self.parts(rendition) {
            let origin = *origins.entry(part.period).or_insert(part.origin);
            assert_eq!(part.origin, origin, "it stays");
            let tick = 1_000_000_000 / i128::from(part.rate) + 1;
            let since = i128::from(part.start) - i128::from(origin.time);
            let expected = i128::from(origin.wall.0) + since * 1_000_000_000 / i128::from(part.rate);
            assert!((i128::from(part.wall.0) - expected).abs() <= tick, "{part:?}");
        }
        let walls: Vec<Wall> = origins.values().map(|origin| origin.wall).collect();
        assert!(walls.is_sorted(), "{walls:?}");
    }

    /// But a frame or two.
    fn nothing_is_at_one_time_with_the_next_period(&self, rendition: Rendition) {
        for pair in self.parts(rendition).windows(2) {
            let [one, next] = pair else { continue };
            let end = one.wall.0 + one.lasts().as_nanos() as u64;
            let begin = next.wall.0 + 100_000_000;
            assert!(one.period == next.period || end <= begin, "{one:?} {next:?}");
        }
    }

    fn segments_are_within_the_target(&self, rendition: Rendition) {
        for (number, parts) in &self.segments(rendition) {
            let ticks: u64 = parts.iter().map(|part| part.duration).sum();
            let seconds = ticks as f64 / f64::from(parts[0].rate);
            let target = f64::from(self.terms().target);
            assert!(seconds.round() <= target, "{rendition:?} {number}: {seconds} s of {target}");
        }
    }

    fn parts_are_as_long_as_they_may_be(&self, rendition: Rendition) {
        let (most, movies) = (self.terms().part, self.movies(rendition));
        let parts = self.parts(rendition);
        for (place, part) in parts.iter().enumerate() {
            let lasts = part.lasts();
            if part.gap {
                let alone = part.index == 0 && part.last;
                assert!(alone || lasts <= most, "{part:?}");
                assert_eq!(part.bytes.is_empty(), !alone, "a whole segment can be fetched: {part:?}");
                assert!(!part.independent);
                continue;
            }
            let followed_by_gap = parts.get(place + 1).is_some_and(|next| next.gap);
            let enough = lasts * 100 >= most * 85;
            assert!(enough || part.last || followed_by_gap, "{rendition:?} of {most:?}: {part:?}");
            if lasts > most {
                // Without its last frame it would have been too short.
                let last = fragment(part, &movies).samples.last().expect("it has media").dts;
                assert!(ticks(last - part.start, part.rate) * 100 < most * 85, "{rendition:?}: {part:?}");
            }
        }
    }

    fn samples_lie_in_their_part(&self, rendition: Rendition) {
        let movies = self.movies(rendition);
        let parts = self.parts(rendition);
        for (place, part) in parts.iter().enumerate().filter(|(_, part)| !part.gap) {
            let samples = fragment(part, &movies).samples;
            assert_eq!(samples[0].dts, part.start);
            assert_eq!(samples[0].key, part.independent);
            let mut end = part.start;
            for sample in &samples {
                assert_eq!(sample.dts, end, "times leave no hole inside a part");
                end += u64::from(sample.duration);
            }
            // A picture may be shown for longer than what is listed of it.
            let is_last = part.last || parts.get(place + 1).is_some_and(|next| next.gap);
            let longer = rendition == Rendition::Video && is_last && end > part.start + part.duration;
            assert!(longer || end == part.start + part.duration, "{end}: {part:?}");
        }
    }

    /// Within two frames, and by how much one comes before the other: it is ahead when it is known where a segment ends.
    fn segments_of_a_number_begin_together(&self) {
        let (video, audio) = (self.segments(Rendition::Video), self.segments(Rendition::Audio));
        for (number, parts) in &video {
            let Some(others) = audio.get(number) else { continue };
            let (one, other) = (&parts[0], &others[0]);
            assert_eq!(one.period, other.period, "{number}");
            assert_eq!(one.origin.wall, other.origin.wall, "{number}");
            let apart = one.wall.0.abs_diff(other.wall.0);
            assert!(apart <= 400_000_000, "{number}: {apart} ns apart: {one:?} {other:?}");
        }
    }
}
