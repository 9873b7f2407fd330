//! Texts that were read already. All viewers of a stream are sent the same playlist, so that of a thousand only the first
//! has to read it: the others compare some kilobytes.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::{hls::Listing, mpd::Manifest};
use crate::url::Url;

/// What all viewers of a load have read.
#[derive(Debug, Default)]
pub struct Shelves {
    /// Media playlists of HLS.
    pub listings: Shelf<Listing>,
    /// Manifests of DASH.
    pub manifests: Shelf<Manifest>,
}

/// The last few texts from each place, and what they said.
#[derive(Debug)]
pub struct Shelf<T> {
    places: HashMap<Url, VecDeque<Text<T>>>,
}

/// A text, and what it said.
type Text<T> = (Box<[u8]>, Rc<T>);

/// Texts that are kept of a place: some viewers have the newest already while others still get the one before.
const TEXTS_MAX: usize = 4;
/// Places that are kept. Where each viewer has an address of its own there may be many; beyond that all are forgotten, which
/// costs reading them again.
const PLACES_MAX: usize = 8192;

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { places: HashMap::new() }
    }
}

impl<T> Shelf<T> {
    /// What `text` says that came from `place`, packed or not. It is read only if it has not been.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn get(
        &mut self,
        place: &Url,
        text: &[u8],
        read: impl FnOnce() -> Result<T, String>,
    ) -> Result<Rc<T>, String> {
        if !self.places.contains_key(place) {
            if self.places.len() == PLACES_MAX {
                self.places.clear();
            }
            self.places.insert(place.clone(), VecDeque::new());
        }
        let texts = self.places.get_mut(place).expect("it was put there a line above, if it was not there");
        if let Some((_, known)) = texts.iter().find(|(known, _)| **known == *text) {
            return Ok(known.clone());
        }
        let new = Rc::new(read()?);
        texts.truncate(TEXTS_MAX - 1);
        texts.push_front((text.into(), new.clone()));
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once_for_each_place_and_the_oldest_are_forgotten() {
        let places = ["http://h:1/a", "http://h:1/b"].map(|text| Url::parse(text).unwrap());
        let (mut shelf, mut reads) = (Shelf::<usize>::default(), 0);
        let mut get = |place: &Url, text: &[u8]| {
            *shelf
                .get(place, text, || {
                    reads += 1;
                    Ok(text.len() * 100 + reads)
                })
                .unwrap()
        };
        assert_eq!(get(&places[0], b"x"), 101);
        assert_eq!(get(&places[0], b"x"), 101);
        assert_eq!(get(&places[1], b"x"), 102);
        assert_eq!(get(&places[0], b"yy"), 203);
        assert_eq!(get(&places[0], b"x"), 101);
        for text in [b"1", b"2", b"3"] {
            get(&places[0], text);
        }
        assert_eq!(get(&places[0], b"x"), 107, "four others were newer");
        assert!(shelf.get(&places[0], b"z", || Err("no".into())).is_err());
    }
}
