//! The way in: a publisher's wish, its frames, its leaving, and the end of its stream.

use std::sync::Arc;

use super::{
    ConnectionId, Hub, Level,
    connection::{Connection, Judged, Leaving, Role, Wanted},
    streams::{Source, Stream, StreamId},
    timers::Timer,
};
use crate::{
    access::Action,
    canary::{self, Canary},
    limits,
    media::{Frame, Payload, StreamName},
    message::{Message, owner_of},
    observe::StreamEvent,
    session::{Answer, Refusal},
    stream::{Numbered, Place, Placed, Publication, window_end},
    time::Now,
};

impl Hub {
    pub(super) fn wish_to_publish(&mut self, id: ConnectionId, name: StreamName, query: &str, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        connection.stream = Some(name.clone());
        connection.wished = Some(Action::Publish);
        if !matches!(connection.role, Role::Talking) {
            return self.answer(id, Answer::Refused(Refusal::AlreadyLive), now);
        }
        // Nobody outside can name one.
        if name.is_rendition() {
            return self.publish_allowed(id, name, now);
        }
        if let Some(Judged { name, .. }) =
            self.judge(id, Judged { ticket: 0, name, wanted: Wanted::Publish }, query, now)
        {
            self.publish_allowed(id, name, now);
        }
    }

    /// It may; whether it can is seen here.
    pub(super) fn publish_allowed(&mut self, id: ConnectionId, name: StreamName, now: Now) {
        if self.draining {
            return self.answer(id, Answer::Refused(Refusal::ShuttingDown), now);
        }
        let owner = owner_of(&name, self.cores);
        if owner == self.core {
            self.publish_here(id, name, now);
        } else if let Some(connection) = self.connection(id) {
            connection.role = Role::Moving { to: owner, name, quiet: false };
        }
    }

    /// The stream is this core's: it begins, goes on, changes hands, or is refused.
    pub(super) fn publish_here(&mut self, id: ConnectionId, name: StreamName, now: Now) {
        let limits = Arc::new(self.settings.limits_of(&name));
        let takeover = limits.takeover;
        let found = self.streams.find(&name);
        // A name that somebody waits for is no stream yet.
        let live = found.and_then(|found| self.streams.look(found)).is_some_and(Stream::is_live);
        let full = self.streams.owned() >= self.streams_max()
            || self.streams.owned_in(name.app()) >= self.share_of(limits.streams);
        if !live && full {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        let stream_id = found.unwrap_or_else(|| {
            self.streams.insert(name, limits, Source::Owned(Box::new(Publication::new(now))))
        });
        let Some(publication) = self.streams.get(stream_id).and_then(Stream::publication) else {
            return self.answer(id, Answer::Refused(Refusal::AlreadyLive), now);
        };
        if let Some(former) = publication.publisher {
            if !takeover && !canary::is_broken(Canary::TwoPublishers) {
                return self.answer(id, Answer::Refused(Refusal::AlreadyLive), now);
            }
            if takeover {
                self.unpublish(former, now);
                self.remark(former, Level::Info, "another publisher took over", None);
                if let Some(connection) = self.connection(former) {
                    connection.close_now();
                }
                self.enqueue(former);
            }
        }
        let Some(publication) = self.streams.get(stream_id).and_then(Stream::publication) else { return };
        let resumed = publication.is_live();
        let epoch = publication.begin(id, now);
        let name = self.streams.look(stream_id).map(|stream| stream.name.clone());
        self.stats.publishes += 1;
        self.stats.resumes += u64::from(resumed);
        if let Some(connection) = self.connection(id) {
            connection.role = Role::Publishing { stream: stream_id, epoch };
        }
        self.remark(id, Level::Info, if resumed { "publishing again" } else { "publishing" }, None);
        if let Some(name) = name {
            self.happened(StreamEvent::Published { name, resumed });
        }
        self.set_stream_timer(stream_id);
        #[cfg(feature = "record")]
        if !resumed {
            self.start_recording(stream_id);
        }
        // Answered first: a publisher that was moved here has unread bytes, and a viewer that begins may want a key frame of
        // it. Neither may reach its session before the answer.
        self.answer(id, Answer::Publishing, now);
        if !resumed {
            self.stream_began(stream_id, now);
        }
    }

    /// How many streams may be live on this core: its share of the node's bound. Hashing spreads the names.
    pub(super) fn streams_max(&self) -> usize {
        self.share_of(self.settings.doors.streams)
    }

    fn share_of(&self, limit: usize) -> usize {
        limit.div_ceil(usize::from(self.cores))
    }

    /// A frame of the stream that this connection publishes.
    pub(super) fn frame(&mut self, id: ConnectionId, frame: Frame, now: Now) {
        let Some(Role::Publishing { stream: stream_id, epoch }) =
            self.connection(id).map(|found| &found.role)
        else {
            return;
        };
        let (stream_id, epoch) = (*stream_id, *epoch);
        let too_large = matches!(&frame.payload, Payload::Metadata(data) | Payload::ColorInfo { data, .. }
            if data.len() > limits::METADATA_BYTES_MAX);
        if too_large {
            return self.remark(id, Level::Warning, "metadata left out: larger than the bound", None);
        }
        let Some(stream) = self.streams.get(stream_id) else { return };
        let Source::Owned(publication) = &mut stream.source else { return };
        if publication.epoch != epoch && !canary::is_broken(Canary::TwoPublishers) {
            return;
        }
        stream.bytes += frame.payload_bytes() as u64;
        self.stats.frames += u64::from(frame.is_media());
        let (mark, placed) = publication.number(frame, now);
        if let Some(mark) = mark {
            self.stats.discontinuities += 1;
            let name = stream.name.clone();
            self.happened(StreamEvent::Discontinuity { name });
            self.spread(stream_id, &mark, now);
        }
        match placed {
            Placed::Numbered(numbered) => {
                if numbered.is_entrance() {
                    let wall = self.wall(now);
                    if let Some(stream) = self.streams.get(stream_id) {
                        stream.group.set_clock(numbered.frame.dts, wall);
                    }
                }
                self.spread(stream_id, &numbered, now);
            }
            Placed::Noted(frame) => {
                if let Some(stream) = self.streams.get(stream_id) {
                    stream.group.note(&frame);
                }
                #[cfg(feature = "segment")]
                self.package(stream_id, &frame, now);
                #[cfg(feature = "record")]
                self.record(stream_id, &frame, now);
            }
            Placed::LeftOut => self.stats.frames_left_out += 1,
        }
    }

    /// Gives a numbered frame of an owned stream to all who want it: the kept group, the logs of this core, the batch for
    /// the others.
    fn spread(&mut self, stream_id: StreamId, numbered: &Numbered, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        if let Source::Owned(publication) = &mut stream.source {
            publication.batch(numbered, stream.group.last());
            if publication.batch_len() > 0 && !stream.in_batches {
                stream.in_batches = true;
                self.batches.push(stream_id);
            }
        }
        self.keep(stream_id, numbered, now);
        #[cfg(feature = "record")]
        self.record(stream_id, &numbered.frame, now);
        #[cfg(feature = "segment")]
        self.package(stream_id, &numbered.frame, now);
        let full = self
            .streams
            .get(stream_id)
            .and_then(Stream::publication)
            .is_some_and(|publication| publication.batch_len() >= limits::BATCH_FRAMES_MAX);
        // The first frame of all goes out by itself. Sound often comes a moment before the first picture, and those who
        // waited for the stream would else enter at the picture's group and miss it.
        let first = numbered.place == Place::FIRST;
        if full || first {
            self.post_batch(stream_id);
        }
        if first {
            self.flush(stream_id, now);
        }
    }

    /// Puts a numbered frame into the kept group and into every log of this core.
    pub(super) fn keep(&mut self, stream_id: StreamId, numbered: &Numbered, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        let let_go = stream.group.push(numbered, &stream.limits, now);
        for log in &mut stream.logs {
            log.push(numbered, stream.group.opening(), now);
            if let_go {
                log.close_entrance();
            }
        }
        if !stream.flush_armed && !stream.logs.is_empty() {
            stream.flush_armed = true;
            let due = now.on_grid(stream.limits.flush);
            self.timers.set_earlier(Timer::Flush(stream_id), due);
        }
        let prompt = stream.logs.iter().any(|log| log.form().prompt);
        if let_go {
            self.stats.groups_let_go += 1;
        }
        if prompt {
            self.show_at_once(stream_id, now);
        }
    }

    /// Shows the viewers of prompt forms what has come.
    fn show_at_once(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        for log in stream.logs.iter_mut().filter(|log| log.form().prompt) {
            log.flush(&stream.limits, now);
        }
        let viewers = std::mem::take(&mut stream.viewers);
        for viewer in &viewers {
            if self.look(*viewer).is_some_and(Connection::is_prompt) {
                self.enqueue(*viewer);
            }
        }
        if let Some(stream) = self.streams.get(stream_id) {
            stream.viewers = viewers;
        }
    }

    /// Shows the viewers of this core what was muxed since the last flush.
    pub(super) fn flush(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        stream.flush_armed = false;
        for log in &mut stream.logs {
            log.flush(&stream.limits, now);
        }
        // A thousand viewers are more than the cache holds, so each is looked at once, when its turn comes: whoever is still
        // being sent to passes. Where the core is behind they are looked at here, too, and nobody is put into the queue twice.
        if self.ready.len() as u64 <= self.stats.connections {
            self.ready.extend(&stream.viewers);
            return;
        }
        let viewers = std::mem::take(&mut stream.viewers);
        viewers.iter().for_each(|viewer| self.enqueue(*viewer));
        if let Some(stream) = self.streams.get(stream_id) {
            stream.viewers = viewers;
        }
    }

    /// The publisher says that it is done, or is gone: its stream waits for it to come back.
    pub(super) fn unpublish(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        let Role::Publishing { stream: stream_id, epoch } = connection.role else { return };
        connection.role = Role::Talking;
        let Some(stream) = self.streams.get(stream_id) else { return };
        let Some(publication) = stream.publication() else { return };
        if publication.leave(epoch, now) {
            let name = stream.name.clone();
            self.happened(StreamEvent::Unpublished { name });
            self.set_stream_timer(stream_id);
        }
    }

    /// When this stream has to be looked at again.
    pub(super) fn set_stream_timer(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        let at = match &stream.source {
            Source::Owned(publication) => match publication.gone {
                Some(gone) => Some(window_end(gone, &stream.limits)),
                None if publication.publisher.is_some() => {
                    Some(publication.last_frame.after(stream.limits.publisher_idle))
                }
                None => None,
            },
            Source::Replica { .. } => stream.lonely.map(|since| since.after(limits::REPLICA_LINGER)),
        };
        self.timers.set(Timer::Stream(stream_id), at);
    }

    pub(super) fn stream_timeout(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        match &stream.source {
            Source::Owned(publication) => {
                if publication.gone.is_some_and(|gone| window_end(gone, &stream.limits) <= now) {
                    return self.end_stream(stream_id, now);
                }
                let idle = publication.last_frame.after(stream.limits.publisher_idle) <= now;
                if let (true, Some(publisher)) = (idle, publication.publisher) {
                    self.unpublish(publisher, now);
                    self.remark(
                        publisher,
                        Level::Warning,
                        "timed_out: publisher sent no frame for too long",
                        None,
                    );
                    self.count_error(crate::error::ErrorKind::TimedOut);
                    if let Some(connection) = self.connection(publisher) {
                        connection.close_now();
                    }
                    return self.enqueue(publisher);
                }
            }
            Source::Replica { .. } => {
                if stream.lonely.is_some_and(|since| since.after(limits::REPLICA_LINGER) <= now) {
                    return self.drop_replica(stream_id);
                }
            }
        }
        self.set_stream_timer(stream_id);
    }

    /// The stream is over: the other cores are told, viewers get what is left and then the end.
    pub(super) fn end_stream(&mut self, stream_id: StreamId, now: Now) {
        self.post_batch(stream_id);
        let Some(stream) = self.streams.get(stream_id) else { return };
        let (name, live) = (stream.name.clone(), stream.is_live());
        if let Some(publication) = stream.publication() {
            for subscriber in std::mem::take(&mut publication.subscribers) {
                let message = Message::Ended { name: name.clone(), subscription: subscriber.subscription };
                self.post(message, subscriber.core);
            }
        }
        #[cfg(feature = "record")]
        self.finish_recording(stream_id, now);
        #[cfg(feature = "segment")]
        let packaged = self.take_packaging(stream_id);
        if live {
            self.happened(StreamEvent::Ended { name });
        }
        self.retire(stream_id, now);
        #[cfg(feature = "segment")]
        self.finish_packaging(&packaged, now);
    }

    /// Lets the viewers of a stream that has ended have what is left, and frees its name.
    pub(super) fn retire(&mut self, stream_id: StreamId, now: Now) {
        self.timers.set(Timer::Stream(stream_id), None);
        self.timers.set(Timer::Flush(stream_id), None);
        let Some(stream) = self.streams.get(stream_id) else { return };
        for log in &mut stream.logs {
            log.flush(&stream.limits, now);
        }
        let viewers = stream.viewers.clone();
        self.streams.retire(stream_id);
        for viewer in viewers {
            let Some(connection) = self.connection(viewer) else { continue };
            match &mut connection.role {
                // One that stops is on its way out already, and one that holds gets the end and nothing before it.
                Role::Viewing { leaving, .. } => {
                    if *leaving == Leaving::No {
                        *leaving = Leaving::Ended;
                    }
                    self.enqueue(viewer);
                }
                Role::Waiting { .. } => {
                    self.leave_stream(viewer, stream_id, now);
                    self.answer(viewer, Answer::Refused(Refusal::NotFound), now);
                }
                _ => {}
            }
        }
    }

    pub(super) fn end_owned_streams(&mut self, now: Now) {
        let owned: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| matches!(stream.source, Source::Owned(_)))
            .map(|(id, _)| id)
            .collect();
        for stream_id in owned {
            self.end_stream(stream_id, now);
        }
    }
}
