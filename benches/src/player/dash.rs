//! A player of DASH: it loads the manifest as often as that says, and fetches each segment that is new, pictures by one
//! connection and sound by another. The manifest comes by the first.
//!
//! Where a manifest says that segments can be had before they are whole, it asks for them then, and takes what comes fragment
//! by fragment. (ISO/IEC 23009-1, 5.3.9.5.3)

use std::{rc::Rc, time::Duration};

use shardcast_engine::time::Now;

use super::{
    Answer, Ask, Desk, Item, Place, RETRY_NANOS, Request, TRIES_MAX,
    fetch::{Fetch, Wanted},
    mpd::{self, Manifest, Set},
};
use crate::url::Url;

/// A viewer by DASH.
#[derive(Debug)]
pub struct Player {
    url: Rc<Url>,
    parses: bool,
    /// How far UTC is ahead of `Now`, in seconds.
    wall_ahead: f64,
    manifest: Option<Rc<Manifest>>,
    /// By connection.
    renditions: Vec<Rendition>,
    /// How far from the end of what was listed the first rendition began, in seconds.
    behind: Option<f64>,
    /// When the manifest may be asked for again, and when it was last.
    due: Now,
    began: Now,
    tries: u32,
}

#[derive(Debug)]
struct Rendition {
    /// No segment before this place is wanted, once it is decided where to begin.
    next: Option<Place>,
    fetch: Fetch,
    asked: Option<Asked>,
    /// When the next segment can be had, if that is not yet.
    available: Option<Now>,
}

#[derive(Debug)]
enum Asked {
    Manifest,
    Piece(Wanted),
}

/// Segments from the end at which a player begins, where the manifest does not say.
const SEGMENTS_BEHIND: f64 = 3.0;
/// The least pause between manifests.
const RELOAD_MIN: Duration = Duration::from_millis(100);
const ROUNDING: f64 = 1e-4;
const NANOS: f64 = 1e9;

impl Player {
    /// A viewer of the manifest at `url`. At `now` it is `wall` seconds since 1970, UTC.
    pub fn new(url: Url, parses: bool, now: Now, wall: f64) -> Player {
        Player {
            url: Rc::new(url),
            parses,
            wall_ahead: wall - now.0 as f64 / NANOS,
            manifest: None,
            renditions: vec![Rendition::new(parses)],
            behind: None,
            due: now,
            began: now,
            tries: 0,
        }
    }

    /// See [`Player::poll`](super::Player::poll).
    pub fn poll(&mut self, now: Now) -> Option<Ask> {
        for connection in 0..self.renditions.len() {
            if self.renditions[connection].asked.is_some() {
                continue;
            }
            if connection == 0 && self.due <= now {
                self.began = now;
                self.renditions[0].asked = Some(Asked::Manifest);
                return Some(Ask { connection, request: Request::playlist(self.url.clone(), false) });
            }
            if let Some(request) = self.wish(connection, now) {
                return Some(Ask { connection, request });
            }
        }
        None
    }

    /// See [`Player::deadline`](super::Player::deadline).
    pub fn deadline(&self) -> Option<Now> {
        let idle = self.renditions.iter().filter(|rendition| rendition.asked.is_none());
        let first = self.renditions.first().filter(|rendition| rendition.asked.is_none());
        idle.filter_map(|rendition| rendition.available).chain(first.map(|_| self.due)).min()
    }

    /// See [`Player::answered`](super::Player::answered).
    ///
    /// # Errors
    /// As there.
    pub fn answered(
        &mut self,
        connection: usize,
        answer: &Answer<'_>,
        now: Now,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        let Some(rendition) = self.renditions.get_mut(connection) else { return Ok(()) };
        match rendition.asked.take() {
            None => Ok(()),
            Some(Asked::Piece(wanted)) => {
                let next = match &wanted {
                    Wanted::Item(Item { place: Place(period, time), .. }, _) => {
                        Place(*period, time.saturating_add(1))
                    }
                    Wanted::Init(_) => rendition.next.unwrap_or_default(),
                };
                rendition.next = Some(next);
                rendition.fetch.answered(&wanted, next, answer, desk)
            }
            Some(Asked::Manifest) => self.listed(answer, now, desk),
        }
    }

    /// See [`Player::passed`](super::Player::passed).
    ///
    /// # Errors
    /// As there.
    pub fn passed(&mut self, connection: usize, bytes: &[u8], desk: &mut Desk<'_>) -> Result<(), String> {
        self.renditions.get_mut(connection).map_or(Ok(()), |rendition| rendition.fetch.passed(bytes, desk))
    }

    /// See [`Player::stop_parsing`](super::Player::stop_parsing).
    pub fn stop_parsing(&mut self) {
        self.parses = false;
        self.renditions.iter_mut().for_each(|rendition| rendition.fetch.stop_parsing());
    }

    fn wish(&mut self, connection: usize, now: Now) -> Option<Request> {
        let manifest = self.manifest.clone()?;
        let set = manifest.sets.get(connection)?;
        let rendition = self.renditions.get_mut(connection)?;
        rendition.available = None;
        if rendition.next.is_none() {
            let wanted = match self.behind {
                None if connection > 0 => return None,
                None => manifest.delay.unwrap_or_else(|| SEGMENTS_BEHIND * set.last_duration()),
                Some(behind) => behind,
            };
            let (place, behind) = set.start(wanted)?;
            rendition.next = Some(place);
            self.behind.get_or_insert(behind);
        }
        let next = rendition.next?;
        let item = set.items.get(set.items.partition_point(|item| item.place < next))?;
        if let Some(available) = self.available(&manifest, set, item).filter(|available| *available > now) {
            self.renditions[connection].available = Some(available);
            return None;
        }
        let rendition = &mut self.renditions[connection];
        let (wanted, request) = rendition.fetch.want(item, set.grows);
        rendition.asked = Some(Asked::Piece(wanted));
        Some(request)
    }

    /// When a segment can be had that is listed earlier than that; `None` where what is listed is there.
    fn available(&self, manifest: &Manifest, set: &Set, item: &Item) -> Option<Now> {
        let start = manifest.available.filter(|_| set.early > 0.0 && set.early.is_finite())?;
        let seconds = start + item.begins + item.duration - set.early - self.wall_ahead;
        // A server whose dates are off is not waited for longer than its segments are.
        let latest = self.began.after(Duration::from_secs_f64(item.duration));
        Some(Now((seconds.max(0.0) * NANOS) as u64).min(latest))
    }

    fn listed(&mut self, answer: &Answer<'_>, now: Now, desk: &mut Desk<'_>) -> Result<(), String> {
        if !answer.is_success() {
            self.tries += 1;
            // Not there yet, too early, too busy.
            if !matches!(answer.status, 404 | 425 | 503) || self.tries > TRIES_MAX {
                return Err(answer.refusal("a manifest"));
            }
            desk.checks.not_found += u64::from(self.manifest.is_some());
            self.due = Now(now.0 + RETRY_NANOS);
            return Ok(());
        }
        if self.manifest.is_none() {
            // It may have been found elsewhere than it was looked for.
            self.url = answer.url.clone();
        }
        let read = || mpd::parse(&answer.text()?, answer.url);
        let manifest = desk.shelves.manifests.get(&self.url, answer.body, read)?;
        if !manifest.dynamic {
            return Err("the manifest is one of a stream that has ended".to_owned());
        }
        self.tries = 0;
        if let Some(before) = &self.manifest {
            let ends = |manifest: &Manifest, of: fn(&Set) -> Option<Place>| {
                manifest.sets.iter().map(of).collect::<Vec<_>>()
            };
            let back = [Set::first as fn(&Set) -> Option<Place>, Set::last].into_iter().any(|of| {
                ends(before, of).iter().zip(ends(&manifest, of)).any(|(before, after)| after < *before)
            });
            desk.checks.sequence_backwards += u64::from(back);
        }
        while self.renditions.len() < manifest.sets.len() {
            self.renditions.push(Rendition::new(self.parses));
        }
        let last = manifest.sets.first().map_or(0.0, Set::last_duration);
        let pause = manifest.update.filter(|update| !update.is_zero());
        let pause = pause.unwrap_or_else(|| Duration::from_secs_f64(last / 2.0));
        self.due = self.began.after(pause.max(RELOAD_MIN));
        self.manifest = Some(manifest);
        Ok(())
    }
}

impl Rendition {
    fn new(parses: bool) -> Rendition {
        Rendition { next: None, fetch: Fetch::new(parses), asked: None, available: None }
    }
}

impl Set {
    fn first(&self) -> Option<Place> {
        self.items.first().map(|item| item.place)
    }

    fn last(&self) -> Option<Place> {
        self.items.last().map(|item| item.place)
    }

    fn last_duration(&self) -> f64 {
        self.items.last().map_or(0.0, |item| item.duration)
    }

    /// The last segment that begins so many seconds before the end of the list, or else the first; and how many that are.
    fn start(&self, behind: f64) -> Option<(Place, f64)> {
        let last = self.items.last()?;
        let end = last.begins + last.duration;
        let found = self.items.iter().rev().find(|item| item.begins <= end - behind + ROUNDING);
        let found = found.or(self.items.first())?;
        Some((found.place, end - found.begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shardcast_engine::media::Frame;

    use crate::{
        clip::{Clip, Playback},
        outcome::Checks,
        player::{
            Body,
            fmp4::tests::{fragment, init},
            shelf::Shelves,
        },
    };

    struct Stage {
        player: Player,
        shelves: Shelves,
        checks: Checks,
        frames: Vec<Frame>,
        now: Now,
    }

    /// Segments of 2 s, from segment `first` on, `count` of them, since a stream began at 1,000 s of UTC.
    fn manifest(first: u64, count: u64, early: &str) -> String {
        let set = |kind: &str| {
            format!(
                "<AdaptationSet contentType='{kind}'><SegmentTemplate timescale='1000' media='{kind}-$Time$.m4s' \
                 initialization='{kind}.mp4' {early}><SegmentTimeline><S t='{}' d='2000' r='{}'/></SegmentTimeline>\
                 </SegmentTemplate><Representation id='1'/></AdaptationSet>",
                first * 2000,
                count - 1,
            )
        };
        format!(
            "<MPD type='dynamic' minimumUpdatePeriod='PT1S' availabilityStartTime='1970-01-01T00:16:40Z'><Period start='PT0S'>{}{}\
             </Period></MPD>",
            set("video"),
            set("audio")
        )
    }

    impl Stage {
        /// 1,010 s after 1970.
        fn new(parses: bool) -> Stage {
            let url = Url::parse("http://h:80/live/cam/manifest.mpd").unwrap();
            let now = Now(5_000_000_000);
            let player = Player::new(url, parses, now, 1010.0);
            Stage { player, shelves: Shelves::default(), checks: Checks::default(), frames: Vec::new(), now }
        }

        fn asks(&mut self) -> Vec<(usize, String)> {
            let mut found = Vec::new();
            while let Some(Ask { connection, request }) = self.player.poll(self.now) {
                found.push((connection, request.url.path.strip_prefix("/live/cam/").unwrap().to_owned()));
            }
            found
        }

        fn answer(&mut self, connection: usize, status: u16, body: &[u8]) -> Result<(), String> {
            let url = Rc::new(Url::parse("http://h:80/live/cam/manifest.mpd").unwrap());
            let answer = Answer { status, reason: "", url: &url, body, gzip: false };
            let Stage { shelves, checks, frames, .. } = self;
            let emit = &mut |frame: &Frame| frames.push(frame.clone());
            self.player.answered(connection, &answer, self.now, &mut Desk { shelves, checks, emit })
        }

        fn pass(&mut self, connection: usize, bytes: &[u8]) {
            let Stage { shelves, checks, frames, .. } = self;
            let emit = &mut |frame: &Frame| frames.push(frame.clone());
            self.player.passed(connection, bytes, &mut Desk { shelves, checks, emit }).unwrap();
        }

        fn wait(&mut self, millis: u64) {
            self.now = self.now.after(Duration::from_millis(millis));
        }
    }

    fn named<const N: usize>(asks: [(usize, &str); N]) -> Vec<(usize, String)> {
        asks.map(|(connection, path)| (connection, path.to_owned())).to_vec()
    }

    #[test]
    fn it_begins_three_segments_back_and_loads_the_manifest_as_often_as_that_says() {
        let mut stage = Stage::new(false);
        assert_eq!(stage.asks(), named([(0, "manifest.mpd")]));
        stage.answer(0, 200, manifest(0, 5, "").as_bytes()).unwrap();
        assert_eq!(stage.asks(), named([(0, "video.mp4"), (1, "audio.mp4")]));
        for connection in [0, 1] {
            stage.answer(connection, 200, b"").unwrap();
        }
        for time in [4000, 6000, 8000] {
            assert_eq!(stage.asks(), [(0, format!("video-{time}.m4s")), (1, format!("audio-{time}.m4s"))]);
            for connection in [0, 1] {
                stage.answer(connection, 200, b"").unwrap();
            }
        }
        assert_eq!((stage.asks(), stage.player.deadline()), (vec![], Some(Now(6_000_000_000))));
        stage.wait(1000);
        assert_eq!(stage.asks(), named([(0, "manifest.mpd")]));
        stage.answer(0, 200, manifest(1, 5, "").as_bytes()).unwrap();
        assert_eq!(stage.asks(), named([(0, "video-10000.m4s"), (1, "audio-10000.m4s")]));
        stage.answer(0, 404, b"").unwrap();
        assert_eq!((stage.checks.not_found, stage.checks.sequence_backwards), (1, 0));
        stage.wait(1000);
        stage.asks();
        stage.answer(0, 200, manifest(0, 6, "").as_bytes()).unwrap();
        assert_eq!(stage.checks.sequence_backwards, 1);
    }

    #[test]
    fn what_grows_is_asked_for_when_it_can_be_had_and_looked_at_as_it_comes() {
        let mut stage = Stage::new(true);
        stage.asks();
        let early = "availabilityTimeOffset='1.5' availabilityTimeComplete='false'";
        // Segment 5 is from 10 to 12 s; it is 10 s after the stream began. It can be had at 10.5 s.
        stage.answer(0, 200, manifest(5, 1, early).as_bytes()).unwrap();
        assert_eq!((stage.asks(), stage.player.deadline()), (vec![], Some(Now(5_500_000_000))));
        stage.wait(500);
        let ask = stage.player.poll(stage.now).unwrap();
        assert_eq!((ask.request.url.path.as_str(), ask.request.body), ("/live/cam/video.mp4", Body::Keep));
        stage.answer(0, 200, &init()).unwrap();
        let ask = stage.player.poll(stage.now).unwrap();
        assert_eq!(
            (ask.request.url.path.as_str(), ask.request.body),
            ("/live/cam/video-10000.m4s", Body::Pass)
        );
        let mut playback = Playback::new(Clip::built_in());
        let (first, _) = fragment(&mut playback, 30, 1);
        let (second, _) = fragment(&mut playback, 30, 1);
        stage.pass(0, &first[..1000]);
        assert_eq!(stage.frames.len(), 0);
        stage.pass(0, &first[1000..]);
        assert_eq!(stage.frames.len(), 30);
        stage.pass(0, &second[..second.len() / 2]);
        assert_eq!(stage.frames.len(), 30);
        stage.pass(0, &second[second.len() / 2..]);
        let (third, _) = fragment(&mut playback, 5, 1);
        stage.pass(0, &third);
        stage.answer(0, 200, b"").unwrap();
        // It is longer than was foretold, which is no promise.
        assert_eq!((stage.frames.len(), stage.checks.durations_wrong), (65, 0));
    }

    #[test]
    fn a_segment_of_another_length_than_listed_is_seen() {
        let mut stage = Stage::new(true);
        stage.asks();
        stage.answer(0, 200, manifest(0, 1, "").as_bytes()).unwrap();
        stage.asks();
        stage.answer(0, 200, &init()).unwrap();
        stage.asks();
        stage.answer(0, 200, &fragment(&mut Playback::new(Clip::built_in()), 59, 1).0).unwrap();
        assert_eq!((stage.frames.len(), stage.checks.durations_wrong), (59, 1));
    }

    #[test]
    fn a_manifest_that_is_not_there_is_waited_for_and_an_ended_one_ends_it() {
        let mut stage = Stage::new(false);
        for _ in 0..TRIES_MAX {
            assert_eq!(stage.asks().len(), 1);
            stage.answer(0, 404, b"").unwrap();
            stage.wait(500);
        }
        stage.asks();
        assert!(stage.answer(0, 404, b"").is_err());
        let mut stage = Stage::new(false);
        stage.asks();
        let ended = manifest(0, 1, "").replace("dynamic", "static");
        assert!(stage.answer(0, 200, ended.as_bytes()).unwrap_err().contains("ended"));
    }

    proptest! {
        #[test]
        fn no_answers_panic(answers in prop::collection::vec((0usize..2, prop::sample::select(vec![200u16, 404, 503]), 0usize..6, 1u64..5), 0..60)) {
            let mut stage = Stage::new(true);
            for (connection, status, body, wait) in answers {
                prop_assert!(stage.asks().len() <= 2);
                let body = match body {
                    0 | 1 => manifest(wait, wait, "availabilityTimeOffset='1'").into_bytes(),
                    2 => init(),
                    3 => fragment(&mut Playback::new(Clip::built_in()), 2, 1).0,
                    4 => b"\x47garbage".to_vec(),
                    _ => Vec::new(),
                };
                let _ = stage.answer(connection, status, &body);
                stage.wait(wait * 300);
                let _ = stage.player.deadline();
            }
        }
    }
}
