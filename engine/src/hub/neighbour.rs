//! What crosses between cores: subscriptions one way, frames the other. Nothing waits for room in a lane: frames that do
//! not fit make the other core's copy late until the next entrance, other words are kept and tried again.

use std::collections::VecDeque;

use super::{
    Hub, Output,
    streams::{Source, StreamId},
    timers::Timer,
};
use crate::{
    limits,
    media::StreamName,
    message::{CoreId, Message, owner_of},
    session::{self, Answer, Refusal},
    stream::{Numbered, Place, Start, Subscriber},
    time::Now,
};

/// How long to wait before a full lane is tried again.
const BACKLOG_RETRY: std::time::Duration = std::time::Duration::from_millis(5);
/// Publishers are asked for a key frame at most this often per stream.
const KEYFRAME_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Runs of cuts that wait for a core that follows a packaged stream. A track has five in a second, so it is half a minute
/// behind then: it is told that it lags, and nothing more until it asks again.
#[cfg(feature = "segment")]
const CUTS_WAITING_MAX: usize = 256;

/// Words that wait for room in the lane to one core, in order.
#[derive(Default)]
pub(super) struct Backlog {
    words: VecDeque<Message>,
    /// How many of them are runs of cuts, by the number of who follows. The only words that one beginning may bring many of.
    #[cfg(feature = "segment")]
    cuts: std::collections::BTreeMap<u64, usize>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    fn push(&mut self, message: Message) {
        #[cfg(feature = "segment")]
        if let Message::Cuts { following, .. } = &message {
            *self.cuts.entry(*following).or_default() += 1;
        }
        self.words.push_back(message);
    }

    /// Whether cuts do not find room any more.
    #[cfg(feature = "segment")]
    fn has_no_room_for_cuts(&self, following: u64) -> bool {
        self.cuts.get(&following).is_some_and(|cuts| *cuts >= CUTS_WAITING_MAX)
    }

    #[cfg(feature = "segment")]
    fn forget_cuts(&mut self, of: u64) {
        self.cuts.remove(&of);
        self.words.retain(|word| !matches!(word, Message::Cuts { following, .. } if *following == of));
    }

    /// Words of which there are never more than one that begins and one that ends something.
    pub(super) fn words_but_cuts(&self) -> usize {
        #[cfg(feature = "segment")]
        let cuts = self.cuts.values().sum::<usize>();
        #[cfg(not(feature = "segment"))]
        let cuts = 0;
        self.len() - cuts
    }
}

impl Hub {
    /// Sends a word to another core, behind those that wait for room.
    pub(super) fn post(&mut self, message: Message, to: CoreId) {
        match self.backlog.get(&to) {
            Some(_) if !message.may_be_late() => self.keep_waiting(message, to),
            Some(_) => self.make_late(&message, to),
            None => self.outputs.push_back(Output::Mail(message, to)),
        }
    }

    /// True when so many words wait for this core that no more may join them.
    pub(super) fn is_cut_off(&self, core: CoreId) -> bool {
        self.backlog.get(&core).is_some_and(|waiting| waiting.len() >= limits::BACKLOG_MESSAGES_MAX)
    }

    pub(super) fn undelivered(&mut self, message: Message, to: CoreId, now: Now) {
        if message.may_be_late() {
            return self.make_late(&message, to);
        }
        self.keep_waiting(message, to);
        self.timers.set_earlier(Timer::Backlog, now.after(BACKLOG_RETRY));
        // What stands behind it waits, too: there may be room again at any moment, and words must not overtake each other.
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Mail(message, other) if other == to => self.post(message, to),
                output => self.outputs.push_back(output),
            }
        }
    }

    fn keep_waiting(&mut self, message: Message, to: CoreId) {
        let waiting = self.backlog.entry(to).or_default();
        #[cfg(feature = "segment")]
        if let Message::Cuts { name, packaging, following, .. } = &message
            && waiting.has_no_room_for_cuts(*following)
        {
            let (name, packaging, following) = (name.clone(), *packaging, *following);
            waiting.forget_cuts(following);
            self.unfollow(&name, packaging, following, to);
            self.stats.replicas_late += 1;
            let word = Message::NotFollowed { name, packaging, following, lagged: true };
            return self.backlog.entry(to).or_default().push(word);
        }
        waiting.push(message);
    }

    pub(super) fn retry_backlog(&mut self, _now: Now) {
        for (to, waiting) in std::mem::take(&mut self.backlog) {
            for message in waiting.words {
                self.outputs.push_back(Output::Mail(message, to));
            }
        }
    }

    /// The other core's copy misses frames from here on: it gets nothing more until the next entrance.
    fn make_late(&mut self, message: &Message, to: CoreId) {
        let (Message::Frames { name, subscription, .. } | Message::Opening { name, subscription, .. }) =
            message
        else {
            return;
        };
        let Some(stream) = self.streams.find(name).and_then(|id| self.streams.get(id)) else { return };
        let Some(publication) = stream.publication() else { return };
        let found = publication
            .subscribers
            .iter_mut()
            .find(|subscriber| subscriber.core == to && subscriber.subscription == *subscription);
        if let Some(subscriber) = found.filter(|subscriber| subscriber.live) {
            subscriber.live = false;
            self.stats.replicas_late += 1;
        }
    }

    pub(super) fn post_batches(&mut self) {
        for stream_id in std::mem::take(&mut self.batches) {
            self.post_batch(stream_id);
        }
    }

    /// One message per interested core with all frames since the last.
    pub(super) fn post_batch(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        stream.in_batches = false;
        let name = stream.name.clone();
        let Source::Owned(publication) = &mut stream.source else { return };
        let Some((after, frames)) = publication.take_batch() else { return };
        let entrance = frames.iter().any(Numbered::is_entrance);
        let mut start = None;
        let mut mail = Vec::with_capacity(publication.subscribers.len());
        for subscriber in &mut publication.subscribers {
            let subscription = subscriber.subscription;
            if subscriber.live {
                let name = name.clone();
                let message = Message::Frames { name, subscription, after, frames: frames.clone() };
                mail.push((message, subscriber.core));
            } else if entrance && !stream.group.frames().is_empty() {
                subscriber.live = true;
                let start = start.get_or_insert_with(|| Start::of(&stream.group)).clone();
                mail.push((
                    Message::Opening { name: name.clone(), subscription, start: Box::new(start) },
                    subscriber.core,
                ));
            }
        }
        for (message, core) in mail {
            self.post(message, core);
        }
    }

    pub(super) fn mail(&mut self, message: Message, from: CoreId, now: Now) {
        match message {
            Message::Subscribe { name, subscription, wait } => {
                self.subscribe(name, subscription, wait, from, now)
            }
            Message::Unsubscribe { name, subscription } => self.unsubscribe(&name, subscription, from),
            Message::Refused { name, subscription, refusal } => {
                self.replica_refused(&name, subscription, refusal, now)
            }
            Message::Opening { name, subscription, start } => {
                self.replica_opening(&name, subscription, *start, now)
            }
            Message::Frames { name, subscription, after, frames } => {
                self.replica_frames(&name, subscription, after, &frames, now)
            }
            Message::Ended { name, subscription } => {
                if let Some(stream_id) = self.replica(&name, subscription) {
                    self.retire(stream_id, now);
                }
            }
            Message::KeyframeWanted { name } => {
                if let Some(stream_id) = self.streams.find(&name) {
                    self.want_keyframe(stream_id, now);
                }
            }
            #[cfg(feature = "segment")]
            Message::Follow { name, packaging, following } => {
                self.follow(&name, packaging, following, from, now);
            }
            #[cfg(feature = "segment")]
            Message::Unfollow { name, packaging, following } => {
                self.unfollow(&name, packaging, following, from);
            }
            #[cfg(feature = "segment")]
            Message::Cuts { name, packaging, following, cuts } => {
                self.followed(&name, packaging, following, &cuts, now);
            }
            #[cfg(feature = "segment")]
            Message::NotFollowed { name, packaging, following, lagged } => {
                self.not_followed(&name, packaging, following, lagged, now);
            }
        }
    }

    // As the owner.

    fn subscribe(&mut self, name: StreamName, subscription: u64, wait: bool, from: CoreId, now: Now) {
        let stream_id = match self.streams.find(&name) {
            Some(stream_id) => stream_id,
            None if wait && !self.draining => {
                let limits = std::sync::Arc::new(self.settings.limits_of(&name));
                self.streams.insert(
                    name.clone(),
                    limits,
                    Source::Owned(Box::new(crate::stream::Publication::new(now))),
                )
            }
            None => {
                return self.post(Message::Refused { name, subscription, refusal: Refusal::NotFound }, from);
            }
        };
        let Some(stream) = self.streams.get(stream_id) else { return };
        let live = stream.is_live();
        let begun = stream.group.last().is_some();
        let start = Start::of(&stream.group);
        let Some(publication) = stream.publication() else { return };
        if !live && !wait {
            return self.post(Message::Refused { name, subscription, refusal: Refusal::NotFound }, from);
        }
        publication.subscribers.retain(|subscriber| subscriber.core != from);
        // Before the first entrance nothing is numbered: the parameters that come until then are part of the opening, and
        // an opening sent now would lack them. So the viewers there hear that the stream is live, and the first entrance
        // brings another.
        publication.subscribers.push(Subscriber { core: from, subscription, live: live && begun });
        if live {
            self.post(Message::Opening { name, subscription, start: Box::new(start) }, from);
        }
    }

    fn unsubscribe(&mut self, name: &StreamName, subscription: u64, from: CoreId) {
        let Some(stream_id) = self.streams.find(name) else { return };
        let Some(stream) = self.streams.get(stream_id) else { return };
        let nobody_here = stream.viewers.is_empty();
        let Some(publication) = stream.publication() else { return };
        publication.subscribers.retain(|held| held.core != from || held.subscription != subscription);
        if !publication.is_live() && publication.subscribers.is_empty() && nobody_here {
            self.streams.retire(stream_id);
        }
    }

    /// A stream has got its first publisher: those who waited, here and on other cores, begin. Their frames begin with the
    /// first entrance, see [`post_batch`](Self::post_batch).
    pub(super) fn stream_began(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        let (name, start) = (stream.name.clone(), Start::of(&stream.group));
        let begun = stream.group.last().is_some();
        let mut mail = Vec::new();
        if let Some(publication) = stream.publication() {
            // A publisher that brought unread bytes may have begun for them already.
            for subscriber in publication.subscribers.iter_mut().filter(|subscriber| !subscriber.live) {
                subscriber.live = begun;
                let message = Message::Opening {
                    name: name.clone(),
                    subscription: subscriber.subscription,
                    start: Box::new(start.clone()),
                };
                mail.push((message, subscriber.core));
            }
        }
        for (message, core) in mail {
            self.post(message, core);
        }
        self.attach_waiting(stream_id, now);
    }

    /// Asks the publisher for a key frame, or the owner to ask it.
    pub(super) fn want_keyframe(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.look(stream_id) else { return };
        let publisher = match &stream.source {
            Source::Owned(publication) => publication.publisher,
            Source::Replica { .. } => None,
        };
        // Its session is at work right now; it has only just begun.
        if publisher.is_some_and(|publisher| self.is_being_driven(publisher)) {
            return;
        }
        let Some(stream) = self.streams.get(stream_id) else { return };
        if stream.keyframe_asked.is_some_and(|asked| now.since(asked) < KEYFRAME_INTERVAL) {
            return;
        }
        stream.keyframe_asked = Some(now);
        match &stream.source {
            Source::Owned(_) => {
                if let Some(publisher) = publisher {
                    self.drive(publisher, session::Input::KeyframeWanted, now);
                }
            }
            Source::Replica { owner, .. } => {
                let (name, owner) = (stream.name.clone(), *owner);
                self.post(Message::KeyframeWanted { name }, owner);
            }
        }
    }

    // As a core with viewers.

    /// The replica that this subscription made, if it is still wanted.
    fn replica(&mut self, name: &StreamName, subscription: u64) -> Option<StreamId> {
        let stream_id = self.streams.find(name)?;
        let stream = self.streams.get(stream_id)?;
        matches!(&stream.source, Source::Replica { subscription: held, .. } if *held == subscription)
            .then_some(stream_id)
    }

    fn replica_refused(&mut self, name: &StreamName, subscription: u64, refusal: Refusal, now: Now) {
        let Some(stream_id) = self.replica(name, subscription) else { return };
        let Some(stream) = self.streams.get(stream_id) else { return };
        let waiting = std::mem::take(&mut stream.viewers);
        self.unwatched(stream_id);
        self.streams.retire(stream_id);
        self.timers.set(Timer::Stream(stream_id), None);
        for id in waiting {
            self.leave_stream(id, stream_id, now);
            self.answer(id, Answer::Refused(refusal), now);
        }
    }

    fn replica_opening(&mut self, name: &StreamName, subscription: u64, start: Start, now: Now) {
        let Some(stream_id) = self.replica(name, subscription) else { return };
        let Some(stream) = self.streams.get(stream_id) else { return };
        let Source::Replica { live, .. } = &mut stream.source else { return };
        if !std::mem::replace(live, true) {
            stream.group = start.group(now);
            return self.attach_waiting(stream_id, now);
        }
        // Frames were lost on the way, or these are the first of the stream. What the viewers have is whole up to some
        // frame; it goes on at this entrance.
        let last = stream.group.last();
        if let (Some(last), Some(first)) = (last, start.frames.first())
            && first.place > last
        {
            for log in &mut stream.logs {
                log.reopen(&start.opening, &first.frame);
            }
        }
        for frame in start.opening.frames() {
            stream.group.note(frame);
        }
        for numbered in start.frames.iter().filter(|numbered| last.is_none_or(|last| numbered.place > last)) {
            self.keep(stream_id, numbered, now);
        }
        if last.is_none() {
            // As on the owner's core: whoever waited enters here, and not at the picture that comes a moment later.
            self.flush(stream_id, now);
        }
    }

    fn replica_frames(
        &mut self,
        name: &StreamName,
        subscription: u64,
        after: Option<Place>,
        frames: &[Numbered],
        now: Now,
    ) {
        let Some(stream_id) = self.replica(name, subscription) else { return };
        let Some(last) = self.streams.look(stream_id).map(|stream| stream.group.last()) else { return };
        if after > last {
            // Something was lost on the way, and what it told of parameters with it. The owner hears of that, and sends an
            // opening with its next entrance.
            return;
        }
        for numbered in frames {
            // What came with the opening already is passed over.
            if last.is_none_or(|last| numbered.place > last) {
                self.keep(stream_id, numbered, now);
            }
        }
    }

    /// Nobody here has watched it for a while: the owner need not send it any more.
    pub(super) fn drop_replica(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        let Source::Replica { owner, subscription, .. } = &stream.source else { return };
        let (owner, subscription, name) = (*owner, *subscription, stream.name.clone());
        self.timers.set(Timer::Flush(stream_id), None);
        self.streams.retire(stream_id);
        self.post(Message::Unsubscribe { name, subscription }, owner);
    }

    /// Which core owns a name.
    pub fn owner_of(&self, name: &StreamName) -> CoreId {
        owner_of(name, self.cores)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        hub::{ConnectionId, Input},
        session::{Event, Form, Input as Told, Output as Wish, Session},
        settings::Settings,
    };

    static FORM: Form =
        Form { name: "none", datagram: None, prompt: false, open: || unreachable!("nothing is played here") };

    /// Asks for one stream, and closes when it is refused.
    struct Asker(Vec<Wish>);

    impl Session for Asker {
        fn handle(&mut self, input: Told<'_>, _: Now) -> Result<(), crate::error::Error> {
            if let Told::Received(name) = input {
                let name = StreamName::parse(std::str::from_utf8(name).unwrap()).unwrap();
                self.0.push(Wish::Event(Event::Play { name, query: String::new(), form: &FORM }));
            } else if let Told::Answer(Answer::Refused(_)) = input {
                self.0.push(Wish::Close);
            }
            Ok(())
        }
        fn poll(&mut self) -> Option<Wish> {
            self.0.pop()
        }
        fn deadline(&self) -> Option<Now> {
            None
        }
        fn received(&self) -> u64 {
            0
        }
    }

    #[test]
    fn words_stay_in_order_when_there_is_room_again_for_the_second_and_not_for_the_first() {
        let mut hub = Hub::new(CoreId(0), 2, Arc::new(Settings::default()));
        let now = Now(1);
        let word =
            |number| Message::Ended { name: StreamName::parse("live/cam").unwrap(), subscription: number };
        (1..=3).for_each(|number| hub.post(word(number), CoreId(1)));
        let Some(Output::Mail(first, to)) = hub.poll(now) else { panic!("a word is due") };
        hub.handle(Input::Undelivered(first, to), now);
        hub.post(word(4), CoreId(1));
        assert!(hub.poll(now).is_none(), "nothing may overtake the first");
        let later = now.after(BACKLOG_RETRY);
        hub.handle(Input::Timeout, later);
        let come: Vec<u64> = std::iter::from_fn(|| hub.poll(later))
            .filter_map(|output| match output {
                Output::Mail(Message::Ended { subscription, .. }, _) => Some(subscription),
                _ => None,
            })
            .collect();
        assert_eq!(come, [1, 2, 3, 4]);
    }

    #[test]
    fn words_for_a_core_that_does_not_listen_stay_within_their_bound() {
        let mut hub = Hub::new(CoreId(0), 2, Arc::new(Settings::default()));
        let now = Now(1);
        let mut refused = 0;
        let names = (0..).map(|number| StreamName::new("live", &format!("cam{number}")).unwrap());
        let theirs = names.filter(|name| owner_of(name, 2) == CoreId(1));
        for (slot, name) in theirs.take(limits::BACKLOG_MESSAGES_MAX + 100).enumerate() {
            let connection = ConnectionId { slot: u32::try_from(slot).unwrap(), generation: 1 };
            let peer = ([192, 0, 2, 1], 1).into();
            let session = Box::new(Asker(Vec::new()));
            hub.handle(Input::Connected { connection, door: "test", peer, session }, now);
            hub.handle(Input::Received { connection, bytes: name.as_str().as_bytes() }, now);
            while let Some(output) = hub.poll(now) {
                match output {
                    Output::Mail(message, to) => hub.handle(Input::Undelivered(message, to), now),
                    Output::Close { .. } => refused += 1,
                    _ => {}
                }
            }
            hub.audit().unwrap();
        }
        assert_eq!(refused, 100);
        assert_eq!(hub.census().backlog, limits::BACKLOG_MESSAGES_MAX);
    }
}
