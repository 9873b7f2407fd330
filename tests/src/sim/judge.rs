//! What must hold. The judge hears what the sessions told their hubs, which is the truth about each stream, and what the
//! peers understood of what came back, and compares. It knows nothing of how the engine does it.

mod arrived;
mod packets;
mod promises;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shardcast_engine::{
    media::{Frame, Payload, StreamName, TrackId},
    session::{Answer, Refusal},
    time::Now,
};

use super::{
    client::Heard,
    reel::{Stamp, fingerprint},
    tap::What,
};

use arrived::Arrived;
pub use arrived::Excuse;
pub use packets::Films;
pub use promises::{Order, Promises};
pub use tally::Tally;

/// Holds a world to what it promises.
#[derive(Debug, Default)]
pub struct Judge {
    streams: BTreeMap<StreamName, Truth>,
    /// Where each frame stands that was taken.
    taken: BTreeMap<Stamp, (StreamName, usize)>,
    /// Until when each frame has been taken that was sent by datagrams and cannot have been lost for good.
    pub promises: Promises,
    /// What was sent by datagrams that nobody sends again.
    pub films: Films,
    sockets: BTreeMap<usize, Watched>,
    /// Jumps of viewers that lagged, per core, as the viewers saw them.
    jumps_seen: BTreeMap<usize, u64>,
    /// What was compared. A world in which nothing was compared proves nothing.
    pub tally: Tally,
}

/// What a viewer must know at a frame: fingerprints of the latest metadata and parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    metadata: Option<u64>,
    video: Option<u64>,
    audio: Option<u64>,
}

impl Known {
    fn learn(&mut self, frame: &Frame) {
        let print = Some(fingerprint(&frame.payload));
        match (&frame.payload, frame.track) {
            (Payload::Metadata(_), _) => self.metadata = print,
            (Payload::Parameters(_), TrackId::VIDEO) => self.video = print,
            (Payload::Parameters(_), TrackId::AUDIO) => self.audio = print,
            _ => {}
        }
    }
}

/// The truth about one stream.
#[derive(Debug, Default)]
struct Truth {
    /// Counts the times that it began anew. Within one a publisher may change.
    life: u32,
    publisher: Option<usize>,
    /// Since when it has had a publisher without a break.
    since: Now,
    /// When its publisher last said something.
    last_word: Now,
    /// When the last publisher left, if that is known.
    left: Option<Now>,
    needs_key: bool,
    has_video: bool,
    known: Known,
    /// Lives in which parameters of sound have changed.
    sound_changed: BTreeSet<u32>,
    frames: Vec<Taken>,
}

/// A frame that was taken.
#[derive(Debug)]
struct Taken {
    stamp: Stamp,
    life: u32,
    at: Now,
    /// It is a picture.
    picture: bool,
    /// A viewer may enter here.
    entrance: bool,
    known: Known,
    dts_millis: i64,
}

impl Taken {
    /// What its track is had been said.
    fn is_described(&self) -> bool {
        if self.picture { self.known.video.is_some() } else { self.known.audio.is_some() }
    }
}

/// A connection, as the judge sees it.
#[derive(Debug, Default)]
struct Watched {
    wished: Option<(StreamName, Now)>,
    /// It was granted something that it has not given back.
    busy: bool,
    /// Another publisher has taken its stream.
    superseded: bool,
    /// It wished for something while it was busy.
    greedy: bool,
    /// Which publisher's film it sends.
    publisher: Option<u32>,
    publishing: Option<StreamName>,
    /// Plays that were granted and that the peer has not heard of yet.
    granted: Vec<StreamName>,
    watching: Option<Watching>,
}

/// What a viewer has had of the stream that it watches.
#[derive(Debug)]
struct Watching {
    stream: StreamName,
    /// When it heard that it may, or that it goes on.
    since: Now,
    /// Whatever comes must come after a header.
    header: bool,
    known: Known,
    last: Option<usize>,
    /// The same of pictures and of sound, where each comes by packets of its own, and the latest time of each.
    last_of: [Option<(usize, i64)>; 2],
    /// It was told that the stream does not continue what came before, since the last frame.
    discontinuity: bool,
    /// It was told everything anew since the last frame: it jumped.
    refreshed: bool,
    /// It asked for silence, and was told that it has it.
    silent: bool,
    /// It was silent at some time, so it may lack frames.
    was_silent: bool,
    offset_millis: Option<i64>,
    last_dts_millis: i64,
}

/// What the engine should do with publishers that leave.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long a stream waits for its publisher to come back.
    pub window: Duration,
    /// How long a publisher may send nothing.
    pub idle: Duration,
    /// What these may be missed by.
    pub slack: Duration,
}

/// A promise that was broken.
pub type Verdict = Result<(), String>;

fn verdict(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

/// How long after the last full lane a copy may still be missing what was posted then.
const LATE_MAX: Duration = Duration::from_secs(2);
/// How far a stream's times may step back (two tracks, and the encoder's own jitter).
const STEP_BACK_MAX_MILLIS: i64 = 2500;

impl Judge {
    /// The film that a connection sends.
    pub fn bind(&mut self, socket: usize, publisher: u32) {
        self.sockets.entry(socket).or_default().publisher = Some(publisher);
    }

    /// Who publishes `name` now.
    pub fn publisher_of(&self, name: &StreamName) -> Option<usize> {
        self.streams.get(name)?.publisher
    }

    /// The stream that a viewer watches.
    pub fn watched_by(&self, socket: usize) -> Option<&StreamName> {
        Some(&self.sockets.get(&socket)?.watching.as_ref()?.stream)
    }

    /// Something passed between a session and its hub. `resumed` tells of a grant whether the hub takes it for the same
    /// stream as before.
    pub fn overhear(
        &mut self,
        socket: usize,
        what: What,
        resumed: bool,
        policy: Policy,
        now: Now,
    ) -> Verdict {
        match what {
            What::WishToPublish(name) | What::WishToPlay(name) => {
                let watched = self.sockets.entry(socket).or_default();
                watched.wished = Some((name, now));
                watched.greedy = watched.busy;
                Ok(())
            }
            What::WishToFetch(name, _) | What::WishToDescribe(name) => {
                self.sockets.entry(socket).or_default().wished = Some((name, now));
                Ok(())
            }
            What::Answer(Answer::Publishing) => self.granted(socket, resumed, policy, now),
            What::Answer(Answer::Playing) => {
                let watched = self.sockets.entry(socket).or_default();
                let (name, _) =
                    watched.wished.clone().expect("an answer follows a wish, as the tap has checked");
                watched.granted.push(name);
                watched.busy = true;
                Ok(())
            }
            What::Answer(Answer::Refused(refusal)) => self.refused(socket, refusal),
            What::Frame(frame) => self.frame(socket, &frame, now),
            What::Unpublish | What::Failed(_) | What::Panicked => {
                self.left(socket, now);
                Ok(())
            }
            What::Ended => {
                self.sockets.entry(socket).or_default().busy = false;
                self.ended(socket, policy, now)
            }
            What::Stop => {
                self.sockets.entry(socket).or_default().busy = false;
                Ok(())
            }
            What::Pause(_) => Ok(()),
            What::Broken(why) => Err(why.to_owned()),
        }
    }

    /// A connection is closed, or its peer has left.
    pub fn left(&mut self, socket: usize, now: Now) {
        let Some(name) = self.sockets.get_mut(&socket).and_then(|watched| watched.publishing.take()) else {
            return;
        };
        let Some(truth) = self.streams.get_mut(&name) else { return };
        if truth.publisher == Some(socket) {
            truth.publisher = None;
            truth.left = Some(now);
        }
    }

    fn granted(&mut self, socket: usize, resumed: bool, policy: Policy, now: Now) -> Verdict {
        let Policy { window, idle, slack } = policy;
        let watched = self.sockets.entry(socket).or_default();
        let (name, _) = watched.wished.clone().expect("an answer follows a wish, as the tap has checked");
        watched.publishing = Some(name.clone());
        let truth = self.streams.entry(name).or_default();
        let gap = truth.left.map(|left| now.since(left));
        if let Some(gap) = gap {
            verdict(resumed || gap + slack > window, || {
                format!("a publisher came back after {gap:?} and did not resume its stream")
            })?;
            verdict(!resumed || gap < window + slack, || {
                format!("a publisher came back after {gap:?} and resumed a stream that had ended")
            })?;
        }
        if let Some(former) = truth.publisher {
            self.sockets.entry(former).or_default().superseded = true;
            // One that sends nothing is let go without a word while something is still being sent to it.
            let idled = now.since(truth.last_word) + slack > idle;
            verdict(resumed || idled, || "a publisher took over and the stream began anew".to_owned())?;
        }
        if resumed {
            self.tally.resumes += 1;
        } else {
            truth.life += 1;
            truth.known = Known::default();
            truth.since = now;
        }
        truth.last_word = now;
        truth.needs_key = true;
        truth.has_video = false;
        truth.publisher = Some(socket);
        truth.left = None;
        Ok(())
    }

    fn refused(&mut self, socket: usize, refusal: Refusal) -> Verdict {
        let watched = self.sockets.entry(socket).or_default();
        let (name, _) = watched.wished.clone().expect("an answer follows a wish, as the tap has checked");
        if refusal == Refusal::AlreadyLive {
            self.tally.refused += 1;
            let held = self.streams.get(&name).is_some_and(|truth| truth.publisher.is_some());
            return verdict(held, || format!("a publisher was refused although nobody held {name}"));
        }
        Ok(())
    }

    /// Since when a stream has been live without a break, if it is and its publisher is not silent for long.
    pub fn live_since(&self, name: &StreamName, idle: Duration, now: Now) -> Option<Now> {
        let truth = self.streams.get(name)?;
        truth.publisher.filter(|_| truth.last_word.after(idle / 2) > now).map(|_| truth.since)
    }

    /// What is in a stream has been said, and so long ago the first of it came: before that nobody can tell which of its tracks
    /// there will be.
    pub fn is_described(&self, name: &StreamName, ago: Duration, now: Now) -> bool {
        self.streams.get(name).is_some_and(|truth| {
            let first = truth.frames.iter().find(|taken| taken.life == truth.life);
            let said = truth.known.video.is_some() || truth.known.audio.is_some();
            said && first.is_some_and(|first| first.at.after(ago) <= now)
        })
    }

    /// Another publisher has taken this one's stream.
    pub fn is_superseded(&self, socket: usize) -> bool {
        self.sockets.get(&socket).is_some_and(|watched| watched.superseded)
    }

    /// A connection wished for something while it had something else.
    pub fn is_greedy(&self, socket: usize) -> bool {
        self.sockets.get(&socket).is_some_and(|watched| watched.greedy)
    }

    /// What a connection wished last, and when.
    pub fn wish_of(&self, socket: usize) -> Option<(StreamName, Now)> {
        self.sockets.get(&socket)?.wished.clone()
    }

    fn frame(&mut self, socket: usize, frame: &Frame, now: Now) -> Verdict {
        let Some(watched) = self.sockets.get(&socket) else { return Ok(()) };
        let Some(name) = watched.publishing.clone() else { return Ok(()) };
        let Some(truth) = self.streams.get_mut(&name).filter(|truth| truth.publisher == Some(socket)) else {
            return Ok(());
        };
        truth.last_word = now;
        if !frame.is_media() {
            let former = truth.known.audio;
            truth.known.learn(frame);
            if former.is_some() && former != truth.known.audio {
                truth.sound_changed.insert(truth.life);
            }
            truth.has_video |=
                frame.track == TrackId::VIDEO && matches!(frame.payload, Payload::Parameters(_));
            return Ok(());
        }
        let stamp = Stamp::read(frame).ok_or("a session made a frame that nobody sent")?;
        verdict(watched.publisher == Some(stamp.publisher), || {
            format!("{stamp:?} came out of the session of publisher {:?}", watched.publisher)
        })?;
        let by_rtp = self.films.follow(stamp, frame)?;
        let kept = self.promises.keep(stamp, now)?;
        self.tally.taken_by_rtp += u64::from(by_rtp);
        let counts = match kept {
            Some(Order::All) => Some(&mut self.tally.kept),
            Some(Order::Unasked) => Some(&mut self.tally.kept_unasked),
            Some(Order::Pictures | Order::Sound) => Some(&mut self.tally.kept_by_rtp),
            None => None,
        };
        counts.into_iter().for_each(|count| *count += 1);
        let Some(truth) = self.streams.get_mut(&name) else { return Ok(()) };
        let first = truth.frames.last().is_none_or(|last| last.life != truth.life);
        let entrance = match frame.is_video() {
            true => {
                truth.has_video = true;
                if frame.is_key() {
                    truth.needs_key = false;
                } else if truth.needs_key {
                    return Ok(());
                }
                frame.is_key()
            }
            false => first || !truth.has_video,
        };
        let taken = Taken {
            stamp,
            life: truth.life,
            at: now,
            picture: frame.is_video(),
            entrance,
            known: truth.known,
            dts_millis: frame.dts.as_millis(),
        };
        let former = self.taken.insert(stamp, (name, truth.frames.len()));
        verdict(former.is_none(), || format!("{stamp:?} came out of a session twice"))?;
        truth.frames.push(taken);
        self.tally.taken += 1;
        Ok(())
    }

    /// A session was told that its viewer's stream has ended.
    fn ended(&mut self, socket: usize, policy: Policy, now: Now) -> Verdict {
        let Some(watching) = self.sockets.get(&socket).and_then(|watched| watched.watching.as_ref()) else {
            return Ok(());
        };
        let truth = &self.streams[&watching.stream];
        let same_life = watching.last.is_some_and(|last| truth.frames[last].life == truth.life);
        let published = truth.publisher.is_some() && now.since(truth.last_word) + policy.slack <= policy.idle;
        verdict(!(same_life && published), || {
            format!("{} ended for a viewer while it was being published", watching.stream)
        })
    }

    /// A peer understood something.
    pub fn hear(&mut self, socket: usize, heard: &Heard, excuse: Excuse, now: Now) -> Verdict {
        let watched = self.sockets.entry(socket).or_default();
        if let Heard::Playing = heard {
            verdict(!watched.granted.is_empty(), || {
                "a viewer heard of a play that was not granted".to_owned()
            })?;
            let stream = watched.granted.remove(0);
            watched.watching = Some(Watching {
                stream,
                since: now,
                header: false,
                known: Known::default(),
                last: None,
                last_of: [None; 2],
                discontinuity: false,
                refreshed: false,
                silent: false,
                was_silent: false,
                offset_millis: None,
                last_dts_millis: i64::MIN,
            });
            return Ok(());
        }
        if let Heard::Broken(why) = heard {
            return Err(format!("a peer was sent something broken: {why}"));
        }
        let Some(watching) = &mut watched.watching else {
            return verdict(!matches!(heard, Heard::Header | Heard::Refresh | Heard::Frame(_)), || {
                "a peer that does not watch was sent a stream".to_owned()
            });
        };
        match heard {
            Heard::Header => {
                verdict(!watching.header, || "a viewer was sent a second header".to_owned())?;
                watching.header = true;
                watching.known = Known::default();
            }
            Heard::Refresh => {
                watching.known = Known::default();
                watching.refreshed = true;
            }
            Heard::Paused => {
                watching.silent = true;
                watching.was_silent = true;
            }
            Heard::Resumed => {
                watching.silent = false;
                watching.since = now;
            }
            Heard::Stopped => watched.watching = None,
            Heard::Ended => {
                let truth = &self.streams[&watching.stream];
                if let Some(last) = watching.last
                    && !watching.was_silent
                    && excuse.whole
                    && excuse.lane_full.is_none()
                    && !excuse.lossy
                {
                    let life = truth.frames[last].life;
                    let end = truth.last_for(&excuse, life, now);
                    verdict(end.is_none_or(|end| end <= last), || {
                        format!("a stream of {} frames ended for a viewer after {last}", end.unwrap_or(0))
                    })?;
                    self.tally.ends += 1;
                }
                watched.watching = None;
            }
            Heard::Frame(frame) => {
                verdict(watching.header || !excuse.plain, || "a frame before the header".to_owned())?;
                verdict(!watching.silent, || "a viewer that holds was sent a frame".to_owned())?;
                match &frame.payload {
                    Payload::Discontinuity => watching.discontinuity = true,
                    Payload::Video { .. } | Payload::Audio { .. } => {
                        let stream = watching.stream.clone();
                        let arrived = self.identify(&stream, frame, excuse, now)?;
                        self.tally.received += 1;
                        return match excuse.tracks {
                            Some(_) => self.received_of_track(socket, arrived),
                            None => self.received(socket, arrived),
                        };
                    }
                    _ => watching.known.learn(frame),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Which frame of `stream` reached a viewer of it.
    fn identify<'a>(
        &self,
        stream: &'a StreamName,
        frame: &Frame,
        excuse: Excuse,
        now: Now,
    ) -> Result<Arrived<'a>, String> {
        let stamp = Stamp::read(frame).ok_or_else(|| format!("a frame of {stream} is not as it was sent"))?;
        let (whose, index) = self.taken.get(&stamp).ok_or_else(|| {
            format!("{stamp:?} reached a viewer of {stream} and was never taken from its publisher")
        })?;
        verdict(whose == stream, || format!("{stamp:?} of {whose} reached a viewer of {stream}"))?;
        Ok(Arrived { stream, stamp, index: *index, dts_millis: frame.dts.as_millis(), excuse, now })
    }

    /// A picture or packet of sound reached a viewer.
    fn received(&mut self, socket: usize, arrived: Arrived<'_>) -> Verdict {
        let Arrived { stream, stamp, index, dts_millis, excuse, now } = arrived;
        let Some(watching) = self.sockets.get_mut(&socket).and_then(|watched| watched.watching.as_mut())
        else {
            return Ok(());
        };
        let truth = &self.streams[stream];
        let taken = &truth.frames[index];

        match watching.last {
            None => {
                let was_silent = |before: &Taken| before.life == taken.life && !before.is_described();
                let enters = taken.entrance || excuse.deaf && truth.frames[..index].iter().any(was_silent);
                verdict(enters || excuse.lossy, || {
                    format!("a viewer entered at {arrived}, which is no entrance")
                })?;
                self.tally.entries += 1;
            }
            Some(last) => {
                verdict(index > last, || format!("{arrived} came after frame {last}"))?;
                let former = &truth.frames[last];
                verdict(taken.life == former.life, || format!("{arrived} is of another life"))?;
                let mut between = truth.frames[last + 1..index].iter();
                let missed = between.find(|missed| !excuse.deaf || missed.is_described());
                if let (Some(_), true) = (missed, excuse.lossy) {
                    self.tally.jumps += 1;
                } else if let Some(missed) = missed {
                    verdict(taken.entrance, || {
                        format!("a viewer jumped from frame {last} to {arrived}, which is no entrance")
                    })?;
                    let lane = excuse.lane_full.is_some_and(|full| full.after(LATE_MAX) >= missed.at);
                    verdict(lane || watching.was_silent || !excuse.prompt, || {
                        format!("a viewer that keeps up jumped from frame {last} to {arrived}")
                    })?;
                    if let Some((core, counted)) = excuse.counted
                        && !lane
                        && !watching.was_silent
                    {
                        let seen = self.jumps_seen.entry(core).or_default();
                        *seen += 1;
                        verdict(*seen <= counted, || {
                            format!("a viewer jumped from frame {last} to {arrived}, and nobody counted it")
                        })?;
                    }
                    self.tally.jumps += 1;
                } else if former.stamp.publisher != stamp.publisher && excuse.plain {
                    verdict(watching.discontinuity || watching.refreshed, || {
                        format!("another publisher's {arrived} came without a discontinuity")
                    })?;
                }
                if former.stamp.publisher != stamp.publisher {
                    watching.offset_millis = None;
                }
            }
        }
        verdict(!excuse.knows || watching.known == taken.known, || {
            format!("at {arrived} a viewer knows {:?} and should know {:?}", watching.known, taken.known)
        })?;
        verdict(dts_millis >= watching.last_dts_millis.saturating_sub(STEP_BACK_MAX_MILLIS), || {
            format!("the time of {arrived} is {dts_millis} after {}", watching.last_dts_millis)
        })?;
        let offset = dts_millis - taken.dts_millis;
        if let Some(before) = watching.offset_millis
            && !watching.discontinuity
            && !watching.refreshed
            && excuse.plain
            && watching.last.is_some_and(|last| last + 1 == index)
        {
            verdict((offset - before).abs() <= 1, || {
                format!("the time of {arrived} was moved by {offset} ms, those before it by {before}")
            })?;
        }
        arrived.in_time(taken, watching.since)?;
        watching.offset_millis = Some(offset);
        watching.last_dts_millis = watching.last_dts_millis.max(dts_millis);
        watching.last = Some(index);
        watching.discontinuity = false;
        watching.refreshed = false;
        verdict(taken.at <= now, || format!("{arrived} came before it was sent"))
    }

    /// Which frame of `stream` it is, if it was taken for that stream.
    pub fn place_of(&self, stream: &StreamName, stamp: Stamp) -> Option<usize> {
        self.taken.get(&stamp).filter(|(whose, _)| whose == stream).map(|(_, index)| *index)
    }

    /// How often `stream` has begun.
    pub fn life_of(&self, stream: &StreamName) -> u32 {
        self.streams.get(stream).map_or(0, |truth| truth.life)
    }

    /// The life of `stream` that a frame is of.
    pub fn life_at(&self, stream: &StreamName, place: usize) -> u32 {
        self.streams[stream].frames[place].life
    }

    /// A frame of `stream` is a picture.
    pub fn is_picture(&self, stream: &StreamName, place: usize) -> bool {
        self.streams[stream].frames[place].picture
    }

    /// Of the track that both are of, no frame was taken between them.
    pub fn is_next_of_track(&self, stream: &StreamName, from: usize, to: usize) -> bool {
        let frames = &self.streams[stream].frames;
        let of_other = |taken: &Taken| taken.picture != frames[to].picture;
        let follows = frames.get(from + 1..to).is_some_and(|between| between.iter().all(of_other));
        follows && frames[from].life == frames[to].life
    }

    /// Between two frames of `stream` stands one that a file could hold: one of a track that nobody has described is left out.
    pub fn is_hole(&self, stream: &StreamName, from: usize, to: usize) -> bool {
        let between = self.streams[stream].frames.get(from + 1..to);
        between.is_some_and(|between| between.iter().any(Taken::is_described))
    }

    /// Nothing changes in `stream` between two frames, nor in the group of the first: one publisher, one set of parameters, no
    /// break. A file begins anew with a group alone, and what its old parameters do not fit waits for that.
    pub fn is_smooth(&self, stream: &StreamName, from: usize, to: usize) -> bool {
        let frames = &self.streams[stream].frames;
        let from = frames[..=from].iter().rposition(|taken| taken.entrance).unwrap_or(from);
        let frames = &frames[from..=to];
        frames.windows(2).all(|pair| {
            pair[0].known == pair[1].known
                && pair[0].stamp.publisher == pair[1].stamp.publisher
                && pair[0].life == pair[1].life
        })
    }

    /// In a calm world a viewer that takes what comes has all that was taken until `until`.
    pub fn has_all(&self, socket: usize, until: Now, excuse: Excuse) -> Verdict {
        let Some(watching) = self.sockets.get(&socket).and_then(|watched| watched.watching.as_ref()) else {
            return Ok(());
        };
        if watching.silent || watching.since > until {
            return Ok(());
        }
        let truth = &self.streams[&watching.stream];
        let Some(newest) = truth.last_for(&excuse, truth.life, until) else { return Ok(()) };
        let taken = &truth.frames[newest];
        if excuse.deaf && !taken.is_described() {
            return Ok(());
        }
        let missing = &truth.frames[watching.last.map_or(newest, |last| last + 1).min(newest)];
        if excuse.lane_full.is_some_and(|full| full.after(LATE_MAX) >= missing.at) {
            return Ok(());
        }
        verdict(watching.last.is_some_and(|last| last >= newest), || {
            format!(
                "a viewer of {} that takes what comes has had {:?} of {newest} frames",
                watching.stream, watching.last
            )
        })
    }
}
