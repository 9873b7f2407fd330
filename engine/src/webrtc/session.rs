//! The hub's contract: an offer, its answer, a stream one way or the other, and what ends it.

use std::{borrow::Cow, collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::Bytes;
use str0m::Event as Told;

use super::{
    counted::Counted,
    fragment,
    offer::{Choice, Offer, one_way},
    peer::{Negotiated, Peer},
    publisher::Publisher,
    viewer::Viewer,
    wire::{self, FORM},
};
use crate::{
    codec::{Codec, Parameters},
    error::Error,
    limits::DoorLimits,
    media::{Payload, StreamName},
    session::{
        self, Answer, Event, Input, Opening, Output, Refusal, Reorder, Shelf,
        signal::{Fault, Reply, Request, Signal, Venue},
    },
    stats::PathStats,
    time::Now,
};

/// How long a viewer may say nothing: its consent has to be heard every few seconds, and holds for thirty. (RFC 7675, 5.1)
const VIEWER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a publisher may. It has media to send all the time, and as long as it is taken to be there nobody else can have its name: a page
/// that was loaded anew comes back and finds it taken.
const PUBLISHER_SILENCE_MAX: Duration = Duration::from_secs(8);

/// A conversation by WebRTC.
#[derive(Debug)]
pub struct Session {
    venue: Option<Venue>,
    state: State,
    out: VecDeque<Output>,
    received: u64,
    opened: Now,
    /// How long it may take until media can flow.
    patience: Duration,
    /// Sound may be had as Opus, whatever it is.
    converts: bool,
    /// Pictures may be had in their order, whatever they are.
    transcodes: bool,
    /// What was counted, now that it is over.
    past: Option<PathStats>,
}

#[derive(Debug)]
enum State {
    /// Nothing was offered yet.
    New,
    /// A viewer has offered, and it is not known yet what is in the stream.
    Describing {
        name: StreamName,
        query: String,
        sdp: String,
    },
    /// The answer waits for the hub's.
    Asking(Box<Answered>),
    /// It was answered.
    Standing(Box<Standing>),
    Over,
}

/// What is said once the hub allows it.
#[derive(Debug)]
struct Answered {
    peer: Peer,
    sdp: String,
    course: Course,
}

#[derive(Debug)]
struct Standing {
    peer: Peer,
    course: Course,
    connected: bool,
    heard: Now,
    counted: Counted,
}

/// Which way the stream goes.
#[derive(Debug)]
enum Course {
    In(Publisher),
    Out(Viewer),
}

impl Session {
    /// One that nothing was offered to yet.
    pub fn new(limits: &DoorLimits, now: Now) -> Self {
        Session {
            venue: None,
            state: State::New,
            out: VecDeque::new(),
            received: 0,
            opened: now,
            patience: limits.handshake,
            converts: limits.webrtc.converts,
            transcodes: limits.webrtc.transcodes,
            past: None,
        }
    }

    fn say(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn reply(&mut self, reply: Reply) {
        self.say(Event::Reply(Box::new(reply)));
    }

    /// Says no to an offer. There is nothing else to talk about.
    fn refuse(&mut self, fault: Fault, why: impl Into<Cow<'static, str>>, error: Error) -> Result<(), Error> {
        self.reply(Reply::refused(fault, why));
        self.state = State::Over;
        Err(error)
    }

    fn signal(&mut self, signal: &Signal, now: Now) -> Result<(), Error> {
        match &signal.request {
            Request::Offer { publish, query, proof, sdp } => {
                if !matches!(self.state, State::New) {
                    self.reply(Reply::refused(Fault::Conflict, "there is an offer already"));
                    return Ok(());
                }
                self.out.extend(proof.clone().map(|proof| Output::Event(Event::Prove(proof))));
                if *publish {
                    return self.publish(&signal.name, query, sdp, now);
                }
                let (name, query) = (signal.name.clone(), query.clone());
                self.say(Event::Describe { name: name.clone(), query: query.clone() });
                self.state = State::Describing { name, query, sdp: sdp.clone() };
                Ok(())
            }
            Request::Trickle { key, tag, fragment } => {
                let State::Standing(standing) = &mut self.state else { return Ok(()) };
                let reply = if standing.peer.key() == *key {
                    fragment::take(&mut standing.peer, tag.as_deref(), fragment)
                } else {
                    Reply::refused(Fault::NotFound, NO_SUCH)
                };
                self.reply(reply);
                Ok(())
            }
            Request::End { key } => {
                let State::Standing(standing) = &mut self.state else { return Ok(()) };
                if standing.peer.key() != *key {
                    self.reply(Reply::refused(Fault::NotFound, NO_SUCH));
                    return Ok(());
                }
                self.reply(Reply::Ended);
                self.part(now);
                Ok(())
            }
        }
    }

    /// A publisher has offered.
    fn publish(&mut self, name: &StreamName, query: &str, sdp: &str, now: Now) -> Result<(), Error> {
        let Some(offer) = Offer::read(sdp) else { return self.unread() };
        let sent = [true, false].map(|video| Some((video, offer.find(video, true)?)));
        let chosen: Vec<_> = sent
            .into_iter()
            .flatten()
            .filter_map(|(video, media)| Some((video, media, media.to_publish()?)))
            .collect();
        if chosen.is_empty() {
            let why = "nothing is offered that could be taken: pictures by H.264 (packetization-mode 1), HEVC, VP8, VP9 or AV1, \
                       sound by Opus, G.711 or G.722";
            return self.refuse(Fault::Unsuited, why, Error::refused("no codec in common", 0));
        }
        let pairs: Vec<_> = chosen.iter().map(|(_, media, choice)| (*media, *choice)).collect();
        let Some((peer, sdp, negotiated)) = self.settle(&one_way(sdp, true), &pairs, now)? else {
            return Ok(());
        };
        let tracks: Vec<(bool, Choice)> =
            chosen.iter().map(|(video, _, choice)| (*video, (*choice).clone())).collect();
        let course = Course::In(Publisher::new(&tracks, negotiated));
        self.state = State::Asking(Box::new(Answered { peer, sdp, course }));
        self.say(Event::Publish { name: name.clone(), query: query.to_owned() });
        Ok(())
    }

    /// It is known what is in the stream that a viewer wants.
    fn described(&mut self, opening: &Opening, now: Now) -> Result<(), Error> {
        let State::Describing { name, query, sdp } = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let Some(offer) = Offer::read(&sdp) else { return self.unread() };
        let plain = opening.reorder == Reorder::Needed;
        if plain && !self.transcodes {
            let why = "its pictures are sent in another order than they are shown in (B-frames that others refer to), \
                       which no browser takes by WebRTC";
            return self.refuse(Fault::Unsuited, why, Error::refused("B-frames that others refer to", 0));
        }
        let parameters = |video: bool| {
            opening.parameters.iter().find_map(|frame| match &frame.payload {
                Payload::Parameters(found) if found.codec.is_video() == video && wire::carries(found) => {
                    Some(found)
                }
                _ => None,
            })
        };
        let mut chosen = [true, false].map(|video| {
            let (parameters, media) = (parameters(video)?, offer.find(video, false)?);
            let choice = if video && plain { media.h264() } else { media.to_play(parameters) };
            Some((media, choice?))
        });
        let mut what = plain.then_some(StreamName::PLAIN);
        if self.converts && chosen[1].is_none() && has_sound(opening) {
            let opus = Parameters::of_opus(2);
            chosen[1] = offer.find(false, false).and_then(|media| Some((media, media.to_play(&opus)?)));
            if chosen[1].is_some() {
                what = Some(if plain { StreamName::PLAIN_OPUS } else { StreamName::OPUS });
            }
        }
        let name = what.map_or_else(|| name.clone(), |what| name.rendition(what));
        let pairs: Vec<_> = chosen.into_iter().flatten().collect();
        if pairs.is_empty() {
            let codecs: Vec<&str> = opening
                .parameters
                .iter()
                .filter_map(|frame| match &frame.payload {
                    Payload::Parameters(found) => Some(found.codec.name()),
                    _ => None,
                })
                .collect();
            let why = format!("the stream has {}, of which nothing is offered", codecs.join(" and "));
            return self.refuse(Fault::Unsuited, why, Error::refused("no codec in common", 0));
        }
        let Some((peer, sdp, negotiated)) = self.settle(&one_way(&sdp, false), &pairs, now)? else {
            return Ok(());
        };
        let mut negotiated = negotiated.into_iter();
        let [video, audio] = chosen.map(|chosen| chosen.and_then(|_| negotiated.next()));
        let course = Course::Out(Viewer::new(video, audio, now));
        self.state = State::Asking(Box::new(Answered { peer, sdp, course }));
        self.say(Event::Play { name, query, form: &FORM });
        Ok(())
    }

    fn unread(&mut self) -> Result<(), Error> {
        self.refuse(
            Fault::Malformed,
            "the offer is no session description",
            Error::malformed("an offer that is no session description", 0),
        )
    }

    /// What both sides have. `None` when the offer was refused.
    #[allow(clippy::type_complexity)]
    fn settle(
        &mut self,
        sdp: &str,
        chosen: &[(&super::offer::Offered, &Choice)],
        now: Now,
    ) -> Result<Option<(Peer, String, Vec<Negotiated>)>, Error> {
        let Some(venue) = self.venue.take() else {
            self.refuse(Fault::Unavailable, "there is no port for media", Error::refused("no venue", 0))?;
            return Ok(None);
        };
        match Peer::answer(&venue, sdp, chosen, now) {
            Ok(settled) => Ok(Some(settled)),
            Err((fault, why)) => {
                self.refuse(fault, why, Error::malformed("an offer that cannot be answered", 0))?;
                Ok(None)
            }
        }
    }

    fn answer(&mut self, answer: Answer, now: Now) -> Result<(), Error> {
        let refused = match answer {
            Answer::Refused(refusal) => Some(refusal),
            Answer::Publishing | Answer::Playing => None,
        };
        let answered = match (std::mem::replace(&mut self.state, State::Over), refused) {
            (State::Asking(answered), None) => *answered,
            (State::Asking(_) | State::Describing { .. }, Some(refusal)) => {
                self.reply(refusal.into());
                return Err(Error::refused(refusal.why(), self.received));
            }
            (state, _) => {
                self.state = state;
                return Ok(());
            }
        };
        let Answered { peer, sdp, mut course } = answered;
        match &mut course {
            Course::In(publisher) => publisher.begin(&mut self.out),
            // Nothing can be sent yet. Once it can, it begins where the stream is then.
            Course::Out(_) => self.say(Event::Pause(true)),
        }
        self.reply(Reply::Accepted { key: peer.key(), tag: peer.tag().to_owned(), sdp });
        self.state = State::Standing(Box::new(Standing {
            peer,
            course,
            connected: false,
            heard: now,
            counted: Counted::default(),
        }));
        self.work(now)
    }

    fn came(&mut self, from: SocketAddr, bytes: &[u8], now: Now) -> Result<(), Error> {
        self.received += bytes.len() as u64;
        let State::Standing(standing) = &mut self.state else { return Ok(()) };
        standing.peer.receive(from, bytes, now);
        standing.heard = now;
        self.work(now)
    }

    /// What follows from what has come, or from the time.
    fn work(&mut self, now: Now) -> Result<(), Error> {
        let State::Standing(standing) = &mut self.state else { return Ok(()) };
        standing.work(&mut self.out, now);
        if standing.peer.is_alive() {
            return Ok(());
        }
        self.end(now);
        Ok(())
    }

    fn time_out(&mut self, now: Now) -> Result<(), Error> {
        let State::Standing(standing) = &mut self.state else {
            let waits = matches!(self.state, State::New) && self.opened.after(self.patience) <= now;
            return if waits { Err(Error::timed_out("nothing was offered", 0)) } else { Ok(()) };
        };
        if !standing.connected && self.opened.after(self.patience) <= now {
            return Err(Error::timed_out("its answer was given, and no media came of it", self.received));
        }
        if standing.gone_at() <= now {
            return Err(Error::timed_out("nothing was heard of it", self.received));
        }
        standing.peer.advance(now);
        self.work(now)
    }

    /// Says goodbye, and is over.
    fn part(&mut self, now: Now) {
        if let State::Standing(standing) = &mut self.state {
            standing.peer.close(now, &mut self.out);
        }
        self.end(now);
    }

    fn end(&mut self, now: Now) {
        self.past = session::Session::path(self).map(PathStats::closed);
        if let State::Standing(standing) = std::mem::replace(&mut self.state, State::Over)
            && let Course::In(mut publisher) = standing.course
        {
            publisher.finish(now, &mut self.out);
            self.say(Event::Unpublish);
        }
        self.out.push_back(Output::Close);
    }
}

/// Whether there is sound that can be made Opus.
fn has_sound(opening: &Opening) -> bool {
    opening.parameters.iter().any(|frame| match &frame.payload {
        Payload::Parameters(found) => {
            matches!(found.codec, Codec::Aac | Codec::Opus | Codec::PcmA | Codec::PcmU)
        }
        _ => false,
    })
}

/// What the log says when a stream that is being watched turns out to be none for this kind of player.
const UNORDERED: &str =
    "its pictures are sent in another order than they are shown in, which no browser takes by WebRTC: ended";
/// What is said of a key that is nobody's.
const NO_SUCH: &str = "no such session";

impl Standing {
    fn work(&mut self, out: &mut VecDeque<Output>, now: Now) {
        let Standing { peer, course, connected, counted, .. } = self;
        if let Course::In(publisher) = course {
            publisher.expire(now, out);
        }
        let mut told = Vec::new();
        peer.drain(out, &mut |event| told.push(event));
        for event in told {
            match (event, &mut *course) {
                (Told::Connected, course) => {
                    *connected = true;
                    if let Course::Out(_) = course {
                        out.push_back(Output::Event(Event::Pause(false)));
                    }
                }
                (Told::RtpPacket(packet), Course::In(publisher)) => publisher.packet(&packet, now, out),
                (Told::SenderFeedback(feedback), Course::In(publisher)) => publisher.report(&feedback, now),
                (Told::MediaEgressStats(stats), _) => counted.egress(&stats),
                (Told::MediaIngressStats(stats), _) => counted.ingress(&stats),
                (Told::PeerStats(stats), _) => counted.rtt(stats.rtt),
                (Told::KeyframeRequest(_), Course::Out(_)) => {
                    out.push_back(Output::Event(Event::KeyframeWanted));
                }
                _ => {}
            }
        }
        if let Course::In(publisher) = course
            && publisher.ask(peer, now)
        {
            peer.advance(now);
            peer.drain(out, &mut |_| {});
        }
    }

    /// When it is taken to be gone, if nothing is heard before.
    fn gone_at(&self) -> Now {
        self.heard.after(match self.course {
            Course::In(_) => PUBLISHER_SILENCE_MAX,
            Course::Out(_) => VIEWER_SILENCE_MAX,
        })
    }

    fn path(&self) -> PathStats {
        match &self.course {
            Course::In(publisher) => self.counted.of_publisher(publisher.lost()),
            Course::Out(viewer) => self.counted.of_viewer(viewer.packets()),
        }
    }

    fn deadline(&self) -> Option<Now> {
        let course = match &self.course {
            Course::In(publisher) => publisher.deadline(),
            Course::Out(viewer) => viewer.deadline(),
        };
        [course, self.peer.deadline(), Some(self.gone_at())].into_iter().flatten().min()
    }
}

impl session::Session for Session {
    fn handle(&mut self, input: Input<'_>, now: Now) -> Result<(), Error> {
        match input {
            Input::From { address, bytes } => self.came(address, bytes, now),
            Input::Signal(signal) => self.signal(signal, now),
            Input::Described(opening) => self.described(&opening, now),
            Input::Answer(answer) => self.answer(answer, now),
            Input::Timeout => self.time_out(now),
            Input::KeyframeWanted => {
                if let State::Standing(standing) = &mut self.state
                    && let Course::In(publisher) = &mut standing.course
                {
                    publisher.want_keyframe();
                }
                self.work(now)
            }
            Input::Ended => {
                self.part(now);
                Ok(())
            }
            Input::Shutdown => {
                if matches!(self.state, State::Describing { .. } | State::Asking(_)) {
                    self.reply(Refusal::ShuttingDown.into());
                }
                self.part(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Now> {
        let patience = self.opened.after(self.patience);
        match &self.state {
            State::New => Some(patience),
            State::Describing { .. } | State::Asking(_) | State::Over => None,
            State::Standing(standing) => {
                let connects = (!standing.connected).then_some(patience);
                standing.deadline().into_iter().chain(connects).min()
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn meets_at(&mut self, venue: Venue) {
        self.venue = Some(venue);
    }

    fn path(&self) -> Option<PathStats> {
        match &self.state {
            State::Standing(standing) if standing.connected => Some(standing.path()),
            State::Over => self.past,
            _ => None,
        }
    }

    fn carries(&self) -> bool {
        true
    }

    fn room(&mut self, now: Now) -> usize {
        match &mut self.state {
            State::Standing(standing) if standing.connected => match &mut standing.course {
                Course::Out(viewer) => viewer.room(now),
                Course::In(_) => 0,
            },
            _ => 0,
        }
    }

    fn carry(&mut self, bytes: &Bytes, shelf: &mut Shelf, now: Now) -> usize {
        let State::Standing(standing) = &mut self.state else { return 0 };
        let Standing { peer, course: Course::Out(viewer), .. } = &mut **standing else { return 0 };
        let mut at = 0;
        while at < bytes.len() {
            let (next, unshown) = viewer.write(peer, bytes, at, shelf, now);
            peer.advance(now);
            peer.drain(&mut self.out, &mut |_| {});
            at = next;
            if unshown {
                self.say(Event::Remark(UNORDERED));
                self.part(now);
                return bytes.len();
            }
            if viewer.left() == 0 {
                break;
            }
        }
        at
    }
}
