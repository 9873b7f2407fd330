//! The way out: a viewer's wish, its place in a log, its leaving.

use std::sync::Arc;

use super::{
    ConnectionId, Hub,
    connection::{Awaited, Judged, Leaving, Reply, Role, Wanted},
    streams::{Source, StreamId},
};
use crate::{
    access::Action,
    media::StreamName,
    message::{Message, owner_of},
    session::{self, Answer, Form, Refusal},
    stream::{Publication, Viewer},
    time::Now,
};

/// How long a viewer waits for another core to say whether a stream is live, when its app does not let it wait for a
/// publisher. Lanes answer in microseconds; this only bounds what a bug could cost.
const ANSWER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// How often a stream is looked at of which it is not known yet what is in it.
const DESCRIPTION_INTERVAL: std::time::Duration = std::time::Duration::from_millis(40);
/// How long after its first frame a stream is taken to have no other tracks than those that have come.
const TRACKS_TIME_MAX: std::time::Duration = std::time::Duration::from_millis(500);

impl Hub {
    pub(super) fn wish_to_play(
        &mut self,
        id: ConnectionId,
        name: StreamName,
        query: &str,
        wanted: Wanted,
        now: Now,
    ) {
        let Some(connection) = self.connection(id) else { return };
        connection.stream = Some(name.clone());
        connection.wished = Some(Action::Play);
        if !matches!(connection.role, Role::Talking) {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        // Sessions alone make such a name, of a stream that the peer was allowed to have described.
        if name.is_rendition() {
            return self.play_allowed(id, name, wanted, now);
        }
        let judged = self.judge(id, Judged { ticket: 0, name, wanted }, query, now);
        if let Some(Judged { name, wanted, .. }) = judged {
            self.play_allowed(id, name, wanted, now);
        }
    }

    /// It may; whether it can is seen here.
    pub(super) fn play_allowed(&mut self, id: ConnectionId, name: StreamName, wanted: Wanted, now: Now) {
        let limits = &self.settings.of(name.app()).limits;
        let patience = self.settings.patience(&name);
        // Looked at before a place is made for the stream: nobody would ever clear it away.
        if limits.viewers == 0 {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        if self.streams.find(&name).is_none() && self.is_cut_off(owner_of(&name, self.cores)) {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        let Some(stream_id) =
            self.streams.find(&name).or_else(|| self.ask_for(&name, !patience.is_zero(), now))
        else {
            return self.answer(id, Answer::Refused(Refusal::NotFound), now);
        };
        let Some(stream) = self.streams.get(stream_id) else { return };
        let asked = matches!(stream.source, Source::Replica { live: false, .. });
        if !stream.is_live() && !asked && patience.is_zero() {
            return self.answer(id, Answer::Refused(Refusal::NotFound), now);
        }
        if stream.viewers.len() >= stream.limits.viewers {
            return self.answer(id, Answer::Refused(Refusal::Full), now);
        }
        stream.viewers.push(id);
        stream.lonely = None;
        let live = stream.is_live();
        let name = stream.name.clone();
        if let Some(connection) = self.connection(id) {
            // One name for all viewers, not the one that each has brought.
            connection.stream = Some(name);
        }
        self.set_stream_timer(stream_id);
        let willing = !patience.is_zero();
        let until = now.after(if willing { patience } else { ANSWER_TIME_MAX });
        let awaited = match wanted {
            Wanted::Play(form) => Awaited::Play(form),
            #[cfg(feature = "segment")]
            Wanted::Fetch { item, token } => Awaited::Fetch { item, token, by: until },
            Wanted::Describe | Wanted::Publish => Awaited::Description { by: until },
        };
        if let Some(connection) = self.connection(id) {
            connection.role =
                Role::Waiting { stream: stream_id, awaited: awaited.clone(), until: Some(until) };
        }
        if live {
            self.begin(id, stream_id, awaited, now);
        } else if willing {
            self.watched(stream_id, id);
        }
    }

    /// The stream is here that a peer waits for.
    pub(super) fn begin(&mut self, id: ConnectionId, stream_id: StreamId, awaited: Awaited, now: Now) {
        match awaited {
            Awaited::Play(form) => self.attach(id, stream_id, form, now),
            Awaited::Description { by } => self.describe(id, stream_id, by, now),
            #[cfg(feature = "segment")]
            Awaited::Fetch { item, token, by } => {
                if self.is_described(id, stream_id, by, now)
                    && let Some(name) = self.streams.look(stream_id).map(|stream| stream.name.clone())
                {
                    self.leave_stream(id, stream_id, now);
                    self.fetch_allowed(id, name, item, token, now);
                }
            }
        }
    }

    /// Tells a peer what is in a stream, as soon as that is known: sound may come a moment after the first picture.
    fn describe(&mut self, id: ConnectionId, stream_id: StreamId, by: Now, now: Now) {
        if !self.is_described(id, stream_id, by, now) {
            return;
        }
        let Some(stream) = self.streams.get(stream_id) else { return };
        let opening = Box::new(stream.group.latest().clone());
        self.leave_stream(id, stream_id, now);
        let driven = self.is_being_driven(id);
        if let (true, Some(connection)) = (driven, self.connection(id)) {
            connection.tell_later(Reply::Described(opening));
        } else {
            self.drive(id, session::Input::Described(opening), now);
        }
    }

    /// Whether it is known what is in a stream. Else whoever waits for it looks again in a moment.
    fn is_described(&mut self, id: ConnectionId, stream_id: StreamId, by: Now, now: Now) -> bool {
        let Some(stream) = self.streams.get(stream_id) else { return false };
        let opening = stream.group.latest();
        let begun = stream.is_live() && stream.group.last().is_some();
        let known =
            opening.has(true) && opening.has(false) || stream.group.is_older_than(TRACKS_TIME_MAX, now);
        let described = begun && known && !opening.parameters.is_empty();
        if !described {
            let again = now.after(DESCRIPTION_INTERVAL).min(by);
            if let Some(connection) = self.connection(id)
                && let Role::Waiting { until, .. } = &mut connection.role
            {
                *until = Some(again);
            }
            self.after(id);
        }
        described
    }

    /// Makes the place where a stream that is not here yet will be. `None` when it is known that nobody publishes it.
    fn ask_for(&mut self, name: &StreamName, wait: bool, now: Now) -> Option<StreamId> {
        let limits = Arc::new(self.settings.limits_of(name));
        let owner = owner_of(name, self.cores);
        if owner == self.core {
            return wait.then(|| {
                self.streams.insert(name.clone(), limits, Source::Owned(Box::new(Publication::new(now))))
            });
        }
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        let id =
            self.streams.insert(name.clone(), limits, Source::Replica { owner, subscription, live: false });
        self.post(Message::Subscribe { name: name.clone(), subscription, wait }, owner);
        Some(id)
    }

    /// The stream is here: the viewer begins at its entrance.
    fn attach(&mut self, id: ConnectionId, stream_id: StreamId, form: &'static Form, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        let log = stream.log(form, now);
        log.readers += 1;
        let mut viewer = Viewer::new(now);
        viewer.choose(log);
        // A log can only be without an entrance when the group was let go or has not begun; a publisher that can make
        // a key frame is asked for one.
        if log.entrance().is_none() {
            self.want_keyframe(stream_id, now);
        }
        let Some(connection) = self.connection(id) else { return };
        connection.role = Role::Viewing { stream: stream_id, form, viewer, leaving: Leaving::No };
        self.stats.plays += 1;
        self.watched(stream_id, id);
        self.answer(id, Answer::Playing, now);
    }

    /// All who waited for this stream begin.
    pub(super) fn attach_waiting(&mut self, stream_id: StreamId, now: Now) {
        let Some(stream) = self.streams.get(stream_id) else { return };
        for id in stream.viewers.clone() {
            if let Some(Role::Waiting { awaited, .. }) =
                self.connection(id).map(|connection| &connection.role)
            {
                let awaited = awaited.clone();
                self.begin(id, stream_id, awaited, now);
            }
        }
    }

    /// The viewer wants no more; it leaves at the end of the frame it is in.
    pub(super) fn stop(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        let between = connection.is_between_frames();
        match &mut connection.role {
            // It has left already, and its next wish may follow at once.
            Role::Viewing { stream, .. } if between => {
                let stream = *stream;
                self.leave_stream(id, stream, now);
            }
            Role::Viewing { viewer, leaving, .. } => {
                viewer.pause(true, now);
                *leaving = Leaving::Stopping;
                self.enqueue(id);
            }
            Role::Waiting { stream, .. } => {
                let stream = *stream;
                self.leave_stream(id, stream, now);
            }
            Role::Judged { .. } => connection.role = Role::Talking,
            #[cfg(feature = "segment")]
            Role::Held { .. } => {}
            Role::Talking | Role::Moving { .. } | Role::Publishing { .. } => {}
        }
    }

    /// The viewer has had the end of its last frame. What it has asked for since is looked at now.
    pub(super) fn stopped(&mut self, id: ConnectionId, stream_id: StreamId, now: Now) {
        self.leave_stream(id, stream_id, now);
        if let Some(wish) = self.connection(id).and_then(|connection| connection.take_next_wish()) {
            self.event(id, wish, now);
        }
    }

    /// Takes a viewer off its stream's list; the last one makes a replica lonely.
    pub(super) fn leave_stream(&mut self, id: ConnectionId, stream_id: StreamId, now: Now) {
        let Some(connection) = self.connection(id) else { return };
        let role = std::mem::replace(&mut connection.role, Role::Talking);
        let Some(stream) = self.streams.get(stream_id) else { return };
        if let Role::Viewing { form, .. } = role {
            stream.release(form);
        }
        if let Some(index) = stream.viewers.iter().position(|viewer| *viewer == id) {
            stream.viewers.swap_remove(index);
        }
        let any = !stream.viewers.is_empty();
        self.unwatched(stream_id);
        if any {
            return;
        }
        let Some(stream) = self.streams.get(stream_id) else { return };
        if stream.ended {
            return self.streams.sweep(stream_id);
        }
        match &mut stream.source {
            Source::Replica { .. } => {
                stream.lonely = Some(now);
                self.set_stream_timer(stream_id);
            }
            Source::Owned(publication) => {
                if !publication.is_live() && publication.subscribers.is_empty() {
                    self.streams.retire(stream_id);
                }
            }
        }
    }
}
