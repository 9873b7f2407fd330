//! What is fetched of a packaged stream: asked of the hub, and answered as it is found.

use bytes::Bytes;

use super::{
    super::{
        fetch::{self, Fetch},
        request::{Method, Request},
        response::{After, Framing},
    },
    Manner, Session, State, Wish,
};
use crate::{
    error::Error,
    media::StreamName,
    segment::{Found, Item},
    session::{Event, Output},
    time::Now,
};

impl Session {
    pub(super) fn fetch(&mut self, name: StreamName, mut item: Item, request: &Request, after: After) {
        let with_body = request.method == Method::Get;
        if let Item::Segment { from, .. } = &mut item {
            *from = Fetch::takes_chunks(request).then_some(0);
        }
        let manner = Manner::Fetch(Fetch::new(&item, request, with_body, self.framing));
        let (query, item) = (fetch::credentials(&request.wish()), Box::new(item));
        self.outbox.push_back(Output::Event(Event::Fetch { name, query, item }));
        self.state = State::Asking(Wish { manner, after });
    }

    /// The hub has found it, or knows that it is not there.
    pub(super) fn fetched(&mut self, found: &Found, now: Now) -> Result<(), Error> {
        let Some(mut wish) = self.take_wish(now) else { return Ok(()) };
        let after = wish.after;
        let Manner::Fetch(fetch) = &mut wish.manner else { return Ok(()) };
        match found {
            Found::Open(pieces, _) => {
                fetch.chunks(pieces, after, |before, piece| {
                    self.outbox_bytes += before.len();
                    self.outbox.extend([Output::Send(before), Output::Share(piece)]);
                });
                self.state = State::Asking(wish);
                return Ok(());
            }
            Found::Bytes(pieces) if fetch.begun => {
                fetch.chunks(pieces, after, |before, piece| {
                    self.outbox_bytes += before.len();
                    self.outbox.extend([Output::Send(before), Output::Share(piece)]);
                });
                if self.framing == Framing::Own {
                    self.push(Bytes::from_static(b"\r\n0\r\n\r\n"));
                }
            }
            // Half of an answer cannot be taken back; whoever has it must not take it for the whole.
            _ if fetch.begun => {
                self.close();
                return Ok(());
            }
            found => {
                let (head, body) = fetch.answer(found, after);
                self.push(head);
                self.outbox.extend(body.into_iter().map(Output::Share));
            }
        }
        if after == After::Close {
            self.finish();
        }
        self.requests(now)
    }
}
