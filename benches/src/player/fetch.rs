//! What a player does with the pieces of one rendition: the initialisation section first where one is needed, then the piece,
//! which is taken apart or only counted; and whether it is as long as its list says.

use std::rc::Rc;

use shardcast_engine::media::{Frame, Payload, TrackId};
use shardcast_engine::time::MediaTime;

use super::{Answer, Body, Desk, Item, Place, Request, Resource, What, media};
use crate::outcome::Checks;

/// How far a piece may be from the length that its list says, in seconds; a tick of its clock, where that is longer.
const TOLERANCE: f64 = 0.001;
/// What rounding in doubles may add.
const ROUNDING: f64 = 1e-6;

/// The pieces of one rendition.
#[derive(Debug)]
pub(super) struct Fetch {
    /// What the decoder has, if it needed any.
    init: Option<Rc<Resource>>,
    /// Takes pieces apart; `None` when nobody looks into them.
    reader: Option<media::Reader>,
    /// The last piece whose length is only known by where the next one begins.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    next: Place,
    begins: f64,
    duration: f64,
}

/// What a rendition waits for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// An initialisation section.
    Init(Rc<Resource>),
    /// A piece, and whether it grows while it is sent.
    Item(Item, bool),
}

impl Fetch {
    pub(super) fn new(parses: bool) -> Fetch {
        Fetch { init: None, reader: parses.then(media::Reader::default), open: None }
    }

    pub(super) fn stop_parsing(&mut self) {
        self.reader = None;
    }

    /// What has to be asked for to have `item`, which grows while it is sent or does not.
    pub(super) fn want(&self, item: &Item, grows: bool) -> (Wanted, Request) {
        let parses = self.reader.is_some();
        match &item.init {
            Some(init) if self.init.as_ref() != Some(init) => {
                let body = if parses { Body::Keep } else { Body::Count };
                (Wanted::Init(init.clone()), request(init, What::Init, body))
            }
            _ => {
                let body = match (parses, grows) {
                    (false, _) => Body::Count,
                    (true, true) => Body::Pass,
                    (true, false) => Body::Keep,
                };
                (Wanted::Item(item.clone(), grows), request(&item.resource, What::Media, body))
            }
        }
    }

    /// What was wanted is there, or is not to be had. `next` is the place that a piece leads to.
    pub(super) fn answered(
        &mut self,
        wanted: &Wanted,
        next: Place,
        answer: &Answer<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        if !answer.is_success() {
            desk.checks.not_found += 1;
            return match wanted {
                Wanted::Init(_) => Err(answer.refusal("an initialisation section that is listed")),
                Wanted::Item(..) => Ok(()),
            };
        }
        match wanted {
            Wanted::Init(init) => {
                self.init = Some(init.clone());
                self.reader.as_mut().map_or(Ok(()), |reader| reader.init(answer.body))
            }
            Wanted::Item(item, grows) => self.item(item, *grows, next, answer.body, desk),
        }
    }

    /// Bytes of a piece that grows while it is sent.
    pub(super) fn passed(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Result<(), String> {
        self.reader.as_mut().map_or(Ok(()), |reader| reader.push(bytes, desk.emit))
    }

    fn item(
        &mut self,
        item: &Item,
        grows: bool,
        next: Place,
        body: &[u8],
        desk: &mut Desk<'_>,
    ) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if item.discontinuity {
            let dts = MediaTime::from_millis(0);
            (desk.emit)(&Frame { track: TrackId::DATA, dts, pts: dts, payload: Payload::Discontinuity });
            self.open = None;
        }
        reader.push(body, desk.emit)?;
        let Some(found) = reader.finish(desk.emit)? else { return Ok(()) };
        if grows {
            // How long it would be was foretold when it was listed.
            return Ok(());
        }
        let tolerance = TOLERANCE.max(found.tick) + ROUNDING;
        let compare = |listed: f64, is: f64, checks: &mut Checks| {
            checks.durations_wrong += u64::from((listed - is).abs() > tolerance);
        };
        match found.lasts {
            Some(lasts) => compare(item.duration, lasts, desk.checks),
            None => {
                if let Some(open) = self.open.take().filter(|open| open.next == item.place) {
                    compare(open.duration, found.begins - open.begins, desk.checks);
                }
                self.open = Some(Open { next, begins: found.begins, duration: item.duration });
            }
        }
        Ok(())
    }
}

fn request(resource: &Resource, what: What, body: Body) -> Request {
    Request { url: resource.url.clone(), range: resource.range, what, body, held: false }
}
