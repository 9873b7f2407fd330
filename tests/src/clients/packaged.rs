//! A player of HLS and DASH that does what ffmpeg's does not: it goes over from one period or initialisation segment to the
//! next, it stays on the one connection it has, and it keeps all that it read. Playlists and manifests are read by parsers
//! of others.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use dash_mpd_core::{AdaptationSet, MPD, SegmentTemplate};
use m3u8_rs::{MasterPlaylist, MediaPlaylist, MediaSegment};

use super::{
    Folder,
    forms::Form,
    packets::Packets,
    web::{Page, Web, addresses},
};

/// What it kept of a stream.
pub struct Kept {
    /// Playlists and manifests, each as often as it was fetched.
    pub texts: Vec<String>,
    /// The media in the order of their tracks, and of each in the order of time.
    pub pieces: Vec<Piece>,
    folder: Folder,
}

/// Segments that continue each other and need the same parameters, as one file that can be played by itself.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Of which track: the name of its playlist or the type of its content.
    pub track: String,
    /// The file.
    pub path: PathBuf,
}

/// How long it follows a stream.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it asks for what is new.
const PAUSE: Duration = Duration::from_millis(200);

impl Kept {
    /// All packets of the pieces of these tracks.
    ///
    /// # Panics
    /// When ffmpeg cannot read one.
    pub fn packets(&self, ffmpeg: &str, filters: &[&str]) -> Packets {
        let mut all = Packets::default();
        for piece in &self.pieces {
            let packets = Packets::of_filtered_file(ffmpeg, &piece.path, filters);
            all.video.extend(packets.video);
            all.audio.extend(packets.audio);
        }
        all
    }
}

/// Follows `APP/STREAM` in a form that is packaged, from its beginning to its end, on this connection.
///
/// # Panics
/// When something that is named cannot be fetched, or cannot be parsed, or the end does not come.
pub fn keep(web: &mut Web, form: Form, name: &str) -> Kept {
    let folder = Folder::new(&format!("{form:?}-kept"));
    let kept = Kept { texts: Vec::new(), pieces: Vec::new(), folder };
    let mut keeper = Keeper { web, base: format!("/{name}/"), kept, began: Instant::now() };
    let path = form.path(name);
    let first = loop {
        let page = keeper.web.get(&path);
        if page.status == 200 {
            break page;
        }
        keeper.pause(&path);
    };
    match form {
        Form::Hls => keeper.hls(form, &first),
        Form::Dash => keeper.dash(&path, first),
        Form::Rtmp | Form::Flv | Form::Ts | Form::Srt => panic!("{form:?} is sent and not fetched"),
    }
    keeper.kept
}

struct Keeper<'a> {
    web: &'a mut Web,
    base: String,
    kept: Kept,
    began: Instant,
}

/// A track that is being followed.
struct Track {
    name: String,
    /// The segment that comes next.
    next: u64,
    /// The initialisation segment that was written last.
    init: Option<String>,
    /// Where in the list of pieces its own is.
    piece: Option<usize>,
    over: bool,
}

impl Track {
    fn new(name: &str, next: u64) -> Self {
        Track { name: name.to_owned(), next, init: None, piece: None, over: false }
    }
}

impl Keeper<'_> {
    fn pause(&self, what: &str) {
        assert!(self.began.elapsed() < PATIENCE, "{what} did not come to its end in {PATIENCE:?}");
        thread::sleep(PAUSE);
    }

    fn text(&mut self, page: &Page) -> String {
        assert_eq!(page.status, 200, "{}", page.head);
        self.kept.texts.push(page.text().to_owned());
        page.text().to_owned()
    }

    fn hls(&mut self, form: Form, index: &Page) {
        let text = self.text(index);
        let index = multivariant(&text);
        let mut addresses: Vec<String> = index.variants.into_iter().map(|variant| variant.uri).collect();
        addresses.extend(index.alternatives.into_iter().filter_map(|media| media.uri));
        let mut lists: Vec<(String, Track)> = addresses
            .into_iter()
            .map(|address| {
                let name = address.split('.').next().unwrap_or_default().to_owned();
                (address, Track::new(&name, 0))
            })
            .collect();
        while lists.iter().any(|(_, track)| !track.over) {
            self.pause("HLS");
            for (address, track) in lists.iter_mut().filter(|(_, track)| !track.over) {
                let page = self.web.get(&format!("{}{address}", self.base));
                let text = self.text(&page);
                let playlist = media(&text);
                let in_mp4 = playlist.segments.iter().any(|segment| segment.map.is_some());
                assert_eq!(in_mp4, form == Form::Hls && !playlist.segments.is_empty(), "{form:?}:\n{text}");
                self.new_segments(&playlist, track);
                track.over = playlist.end_list;
            }
        }
    }

    fn new_segments(&mut self, playlist: &MediaPlaylist, track: &mut Track) {
        let first = playlist.media_sequence;
        if track.piece.is_none() {
            track.next = first;
        }
        assert!(first <= track.next, "segment {} of {} has gone", track.next, track.name);
        // The map holds until the next one; the parser gives it to its first segment alone.
        let mut map = None;
        for (number, segment) in (first..).zip(&playlist.segments) {
            map = segment.map.as_ref().map(|map| map.uri.clone()).or(map);
            if number < track.next {
                continue;
            }
            track.next = number + 1;
            if is_gap(segment) {
                continue;
            }
            let begins = track.piece.is_none() || track.init != map || segment.discontinuity;
            if begins {
                track.init = map.clone();
                self.begin(track);
            }
            self.append(track, &segment.uri);
        }
    }

    fn dash(&mut self, path: &str, mut page: Page) {
        let mut tracks: Vec<Track> = Vec::new();
        loop {
            let text = self.text(&page);
            let manifest = manifest(&text);
            let over = manifest.mpdtype.as_deref() == Some("static");
            for period in &manifest.periods {
                let period_id = period.id.clone().expect("a period has an id");
                for set in &period.adaptations {
                    let kind = set.contentType.clone().expect("a set says what it holds");
                    let template = template_of(set);
                    let first = template.startNumber.unwrap_or(1);
                    let name = format!("{period_id}-{kind}");
                    let place = tracks.iter().position(|track| track.name == name).unwrap_or_else(|| {
                        tracks.push(Track::new(&name, first));
                        tracks.len() - 1
                    });
                    self.new_numbers(template, over, &mut tracks[place]);
                }
            }
            if over {
                break;
            }
            self.pause("DASH");
            page = self.web.get(path);
        }
        let track = |piece: &Piece| piece.track.rsplit('-').next().unwrap_or_default().to_owned();
        self.kept.pieces.sort_by_key(track);
    }

    fn new_numbers(&mut self, template: &SegmentTemplate, over: bool, track: &mut Track) {
        let first = template.startNumber.unwrap_or(1);
        let timeline = template.SegmentTimeline.as_ref().expect("segments are listed");
        let listed: u64 = timeline
            .segments
            .iter()
            .map(|run| 1 + run.r.map_or(0, |more| u64::try_from(more).expect("a count")))
            .sum();
        // The last may still be made.
        let open = !over && template.availabilityTimeComplete == Some(false);
        let end = first + listed - u64::from(open);
        assert!(first <= track.next, "segment {} of {} has gone", track.next, track.name);
        let init = template.initialization.clone().expect("an initialisation segment");
        while track.next < end {
            if track.piece.is_none() {
                track.init = Some(init.clone());
                self.begin(track);
            }
            assert_eq!(track.init.as_ref(), Some(&init), "one for a set");
            let address = template.media.clone().expect("segments have names");
            self.append(track, &address.replace("$Number$", &track.next.to_string()));
            track.next += 1;
        }
    }

    /// Begins a new piece with the initialisation segment that holds from here on.
    fn begin(&mut self, track: &mut Track) {
        let path = self.kept.folder.path().join(self.kept.pieces.len().to_string());
        let bytes = track.init.clone().map(|init| self.bytes(&init)).unwrap_or_default();
        fs::write(&path, bytes).expect("an own folder can be written");
        track.piece = Some(self.kept.pieces.len());
        self.kept.pieces.push(Piece { track: track.name.clone(), path });
    }

    fn append(&mut self, track: &Track, address: &str) {
        let bytes = self.bytes(address);
        let piece = track.piece.and_then(|place| self.kept.pieces.get(place)).expect("one was begun");
        let mut file = fs::OpenOptions::new().append(true).open(&piece.path).expect("it was just written");
        std::io::Write::write_all(&mut file, &bytes).expect("an own folder can be written");
    }

    fn bytes(&mut self, address: &str) -> Vec<u8> {
        let page = self.web.get(&format!("{}{address}", self.base));
        assert_eq!(page.status, 200, "{address}: {}", page.head);
        assert!(!page.body.is_empty(), "{address} is empty");
        page.body
    }
}

/// A multivariant playlist, with all that it names.
///
/// # Panics
/// When it is none.
pub fn multivariant(text: &str) -> MasterPlaylist {
    let parsed = m3u8_rs::parse_master_playlist_res(text.as_bytes());
    let playlist = parsed.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(playlist.variants.len(), addresses(text).len(), "variants of\n{text}");
    assert!(!playlist.variants.is_empty(), "nothing is named by\n{text}");
    let media = text.lines().filter(|line| line.starts_with("#EXT-X-MEDIA:")).count();
    assert_eq!(playlist.alternatives.len(), media, "renditions of\n{text}");
    playlist
}

/// A media playlist, with all its segments.
///
/// # Panics
/// When it is none.
pub fn media(text: &str) -> MediaPlaylist {
    let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes());
    let playlist = parsed.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(playlist.segments.len(), addresses(text).len(), "segments of\n{text}");
    assert_eq!(playlist.end_list, text.contains("#EXT-X-ENDLIST"), "end of\n{text}");
    assert!(playlist.target_duration > 0, "target duration of\n{text}");
    for segment in &playlist.segments {
        // Rounded to the nearest second. (RFC 8216bis, 4.4.3.1)
        let whole = segment.duration.round();
        assert!(whole <= playlist.target_duration as f32, "{} is too long in\n{text}", segment.uri);
        assert!(segment.program_date_time.is_some(), "{} has no time in\n{text}", segment.uri);
    }
    playlist
}

/// A manifest, with all its sets.
///
/// # Panics
/// When it is none.
pub fn manifest(text: &str) -> MPD {
    let parsed = dash_mpd_core::parse(text);
    let manifest = parsed.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    assert_eq!(manifest.periods.len(), text.matches("<Period ").count(), "periods of\n{text}");
    let sets: usize = manifest.periods.iter().map(|period| period.adaptations.len()).sum();
    assert_eq!(sets, text.matches("<AdaptationSet ").count(), "sets of\n{text}");
    assert!(sets > 0, "nothing is named by\n{text}");
    manifest
}

fn is_gap(segment: &MediaSegment) -> bool {
    segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP")
}

/// What names the segments of a set.
///
/// # Panics
/// When nothing does.
pub fn template_of(set: &AdaptationSet) -> &SegmentTemplate {
    let of_representation = || set.representations.iter().find_map(|it| it.SegmentTemplate.as_ref());
    set.SegmentTemplate.as_ref().or_else(of_representation).expect("segments are named by a template")
}
