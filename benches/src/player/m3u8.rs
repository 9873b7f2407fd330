//! HLS playlists as text (RFC 8216, and draft-pantos-hls-rfc8216bis for parts and blocking reloads). What is listed where,
//! and how a client is to behave; where an address leads is the business of [`uri`](super::uri).

/// A playlist of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Playlist {
    /// It names other playlists.
    Multivariant(Multivariant),
    /// It lists media.
    Media(Media),
}

/// What a viewer takes of a multivariant playlist: the first variant, and the sound that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multivariant {
    /// The first variant's playlist.
    pub variant: String,
    /// Its sound's, where that has one of its own.
    pub audio: Option<String>,
}

/// A media playlist. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    /// EXT-X-TARGETDURATION.
    pub target: f64,
    /// PART-TARGET.
    pub part_target: Option<f64>,
    /// HOLD-BACK.
    pub hold_back: Option<f64>,
    /// PART-HOLD-BACK.
    pub part_hold_back: Option<f64>,
    /// CAN-BLOCK-RELOAD.
    pub can_block: bool,
    /// Whether CAN-SKIP-UNTIL is there: older segments need not be listed again.
    pub can_skip: bool,
    /// EXT-X-MEDIA-SEQUENCE.
    pub first: u64,
    /// EXT-X-INDEPENDENT-SEGMENTS.
    pub independent: bool,
    /// EXT-X-ENDLIST.
    pub ended: bool,
    /// EXT-X-MAP, each that is named.
    pub maps: Vec<Resource>,
    /// What is listed, in order; the last may have parts alone.
    pub segments: Vec<Segment>,
}

/// Something that can be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Where.
    pub uri: String,
    /// The first byte and how many, where it is not all of it.
    pub range: Option<(u64, u64)>,
}

/// A segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Its Media Sequence Number.
    pub number: u64,
    /// When it begins, from the beginning of what is listed.
    pub begins: f64,
    /// How long it is; that of the parts so far while it is not whole.
    pub duration: f64,
    /// Itself, once it is whole.
    pub resource: Option<Resource>,
    /// There is nothing to be fetched.
    pub gap: bool,
    /// It does not continue the one before it.
    pub discontinuity: bool,
    /// Which of the playlist's maps it needs.
    pub map: Option<usize>,
    /// Its parts, where they are listed.
    pub parts: Vec<Part>,
}

/// A part of a segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// When it begins, from the beginning of what is listed.
    pub begins: f64,
    /// How long it is.
    pub duration: f64,
    /// Itself.
    pub resource: Resource,
    /// A decoder can begin here.
    pub independent: bool,
    /// There is nothing to be fetched.
    pub gap: bool,
}

/// Longer than anything that a playlist says of itself; what a parser of numbers makes of "inf" is not.
const SECONDS_MAX: f64 = 1e7;

/// Reads a playlist.
///
/// # Errors
/// What is wrong, and in which line.
pub fn parse(text: &[u8]) -> Result<Playlist, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the playlist is no text".to_owned())?;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    if lines.next().is_none_or(|(_, line)| line.trim_end() != "#EXTM3U") {
        return Err("it does not begin with #EXTM3U: it is no playlist".to_owned());
    }
    let mut parser = Parser::default();
    for (number, line) in lines {
        parser.line(line.trim()).map_err(|why| format!("line {} of the playlist: {why}", number + 1))?;
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    media: Media,
    /// The segment whose address has not come.
    open: Segment,
    /// Its length, if that has been said.
    length: Option<f64>,
    /// Its range: how many bytes, and from where.
    range: Option<(u64, Option<u64>)>,
    /// Where the last range ended, which a next one without a beginning continues.
    range_end: u64,
    /// Whether any tag of a media playlist was there.
    is_media: bool,
    /// The group of the variant whose address comes next, and of the one that was taken.
    variant: Variant,
    group: Option<String>,
    multivariant: Option<Multivariant>,
    /// Renditions of sound that have a playlist of their own: group and address, the default one of a group first.
    sounds: Vec<(String, String)>,
}

#[derive(Default, PartialEq)]
enum Variant {
    #[default]
    None,
    /// Its address comes next; which group its sound is in.
    Next(Option<String>),
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let Some(tag) = line.strip_prefix("#EXT") else {
            return if line.starts_with('#') { Ok(()) } else { self.address(line) };
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match name {
            "-X-STREAM-INF" => {
                let group =
                    Attributes(value).find(|(name, _)| *name == "AUDIO").map(|(_, value)| value.to_owned());
                self.variant = Variant::Next(group);
                return Ok(());
            }
            "-X-MEDIA" => {
                self.sound(value);
                return Ok(());
            }
            "INF" => self.length = Some(seconds(value.split(',').next().unwrap_or_default())?),
            "-X-TARGETDURATION" => self.media.target = seconds(value)?,
            "-X-MEDIA-SEQUENCE" => {
                self.media.first = whole(value)?;
                self.open.number = self.media.first;
            }
            "-X-PART-INF" => self.media.part_target = find(value, "PART-TARGET").map(seconds).transpose()?,
            "-X-SERVER-CONTROL" => self.server_control(value)?,
            "-X-INDEPENDENT-SEGMENTS" => self.media.independent = true,
            "-X-ENDLIST" => self.media.ended = true,
            "-X-DISCONTINUITY" => self.open.discontinuity = true,
            "-X-GAP" => self.open.gap = true,
            "-X-BYTERANGE" => self.range = Some(range(value)?),
            "-X-SKIP" => {
                let skipped = whole(find(value, "SKIPPED-SEGMENTS").unwrap_or_default())?;
                self.open.number =
                    self.open.number.checked_add(skipped).ok_or("too many segments are skipped")?;
            }
            "-X-MAP" => {
                let map = self.resource(value)?;
                self.media.maps.push(map);
            }
            "-X-PART" => self.part(value)?,
            "-X-KEY" if find(value, "METHOD").is_some_and(|method| method != "NONE") => {
                return Err("it is encrypted".to_owned());
            }
            _ => return Ok(()),
        }
        self.is_media = true;
        Ok(())
    }

    fn server_control(&mut self, value: &str) -> Result<(), String> {
        for (name, value) in Attributes(value) {
            match name {
                "CAN-BLOCK-RELOAD" => self.media.can_block = value == "YES",
                "CAN-SKIP-UNTIL" => self.media.can_skip = seconds(value)? > 0.0,
                "HOLD-BACK" => self.media.hold_back = Some(seconds(value)?),
                "PART-HOLD-BACK" => self.media.part_hold_back = Some(seconds(value)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn sound(&mut self, value: &str) {
        if find(value, "TYPE") != Some("AUDIO") {
            return;
        }
        if let (Some(group), Some(uri)) = (find(value, "GROUP-ID"), find(value, "URI")) {
            let sound = (group.to_owned(), uri.to_owned());
            let first = find(value, "DEFAULT") == Some("YES");
            self.sounds.insert(if first { 0 } else { self.sounds.len() }, sound);
        }
    }

    /// The URI and BYTERANGE of a tag's attributes.
    fn resource(&mut self, value: &str) -> Result<Resource, String> {
        let uri = find(value, "URI").ok_or("a URI is missing")?.to_owned();
        let range = find(value, "BYTERANGE").map(range).transpose()?;
        Ok(Resource { uri, range: range.map(|range| self.placed(range)) })
    }

    fn placed(&mut self, (length, first): (u64, Option<u64>)) -> (u64, u64) {
        let first = first.unwrap_or(self.range_end);
        self.range_end = first.saturating_add(length);
        (first, length)
    }

    fn part(&mut self, value: &str) -> Result<(), String> {
        let duration = seconds(find(value, "DURATION").ok_or("a part's DURATION is missing")?)?;
        let resource = self.resource(value)?;
        let before: f64 = self.open.parts.iter().map(|part| part.duration).sum();
        self.open.parts.push(Part {
            begins: self.open.begins + before,
            duration,
            resource,
            independent: find(value, "INDEPENDENT") == Some("YES"),
            gap: find(value, "GAP") == Some("YES"),
        });
        Ok(())
    }

    fn address(&mut self, uri: &str) -> Result<(), String> {
        if let Variant::Next(group) = std::mem::take(&mut self.variant) {
            if self.multivariant.is_none() {
                self.multivariant = Some(Multivariant { variant: uri.to_owned(), audio: None });
                self.group = group;
            }
            return Ok(());
        }
        self.is_media = true;
        let duration = self.length.take().ok_or("an address without #EXTINF")?;
        let range = self.range.take().map(|range| self.placed(range));
        let next = Segment {
            number: self.open.number.checked_add(1).ok_or("segments are numbered too high")?,
            begins: self.open.begins + duration,
            ..Segment::default()
        };
        let segment = std::mem::replace(&mut self.open, next);
        let resource = Some(Resource { uri: uri.to_owned(), range });
        let map = self.media.maps.len().checked_sub(1);
        self.media.segments.push(Segment { duration, resource, map, ..segment });
        Ok(())
    }

    fn finish(mut self) -> Result<Playlist, String> {
        if let Some(mut multivariant) = self.multivariant {
            if let Some(group) = self.group {
                let sound = self.sounds.into_iter().find(|(of, _)| *of == group);
                // The variant may name as its sound what it is itself.
                multivariant.audio = sound.map(|(_, uri)| uri).filter(|uri| *uri != multivariant.variant);
            }
            return Ok(Playlist::Multivariant(multivariant));
        }
        if !self.is_media {
            return Err("the playlist lists nothing".to_owned());
        }
        if !self.open.parts.is_empty() {
            let duration = self.open.parts.iter().map(|part| part.duration).sum();
            let map = self.media.maps.len().checked_sub(1);
            self.media.segments.push(Segment { duration, map, ..self.open });
        }
        Ok(Playlist::Media(self.media))
    }
}

/// The attributes of a tag (RFC 8216, 4.2), values without their quotes. Ends where they no longer are any.
struct Attributes<'a>(&'a str);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (name, rest) = self.0.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"')?;
                (value, rest.strip_prefix(',').unwrap_or(rest))
            }
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        self.0 = rest;
        Some((name.trim(), value.trim()))
    }
}

fn find<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    Attributes(attributes).find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|value| (0.0..SECONDS_MAX).contains(value));
    value.ok_or_else(|| format!("{text:?} is no number of seconds"))
}

fn whole(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no whole number"))
}

/// How many bytes, and from where if that is said.
fn range(text: &str) -> Result<(u64, Option<u64>), String> {
    let (length, first) = text.split_once('@').map_or((text, None), |(length, first)| (length, Some(first)));
    match (whole(length)?, first.map(whole).transpose()?) {
        (0, _) => Err("a range of no bytes".to_owned()),
        range => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn media(text: &str) -> Media {
        match parse(text.as_bytes()) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_multivariant_playlist_names_its_first_variant_and_the_sound_of_it() {
        let text = "#EXTM3U\r\n#EXT-X-VERSION:9\r\n#EXT-X-INDEPENDENT-SEGMENTS\r\n\
            #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"a\",URI=\"s.m3u8\"\r\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",URI=\"other.m3u8\"\r\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, \",URI=\"second.m3u8\"\r\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",DEFAULT=YES,URI=\"audio.m3u8?k=v\"\r\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.4d401f,mp4a.40.2\",AUDIO=\"a\"\r\nvideo.m3u8?k=v\r\n\
            #EXT-X-STREAM-INF:BANDWIDTH=2\r\nmore.m3u8\r\n";
        let wanted = Multivariant { variant: "video.m3u8?k=v".into(), audio: Some("audio.m3u8?k=v".into()) };
        assert_eq!(parse(text.as_bytes()), Ok(Playlist::Multivariant(wanted)));
        let alone = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
        let wanted = Multivariant { variant: "a.m3u8".into(), audio: None };
        assert_eq!(parse(alone.as_bytes()), Ok(Playlist::Multivariant(wanted)));
    }

    #[test]
    fn parts_stand_in_their_segments_and_the_last_segment_may_have_nothing_else() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.5\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6\n\
             #EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2.000,\n7.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"j.mp4\",BYTERANGE=\"100@0\"\n\
             #EXT-X-PART:DURATION=0.5,URI=\"8.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.25,URI=\"8.1.m4s\"\n\
             #EXTINF:0.75,title\n8.m4s\n#EXT-X-PART:DURATION=0.5,URI=\"9.0.m4s\",GAP=YES\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"9.1.m4s\"\n#EXT-X-RENDITION-REPORT:URI=\"a.m3u8\",LAST-MSN=9,LAST-PART=0\n",
        );
        assert_eq!((media.target, media.part_target, media.part_hold_back), (2.0, Some(0.5), Some(1.5)));
        assert_eq!(
            (media.can_block, media.can_skip, media.hold_back, media.ended),
            (true, true, Some(6.0), false)
        );
        let numbers: Vec<_> =
            media.segments.iter().map(|s| (s.number, s.begins, s.duration, s.parts.len())).collect();
        assert_eq!(numbers, [(7, 0.0, 2.0, 0), (8, 2.0, 0.75, 2), (9, 2.75, 0.5, 1)]);
        let [_, eight, nine] = &media.segments[..] else { panic!("three") };
        assert!(eight.discontinuity && eight.parts[0].independent && !eight.parts[1].independent);
        assert_eq!((eight.parts[1].begins, eight.map), (2.5, Some(1)));
        assert_eq!((nine.resource.clone(), nine.parts[0].gap, nine.map), (None, true, Some(1)));
        assert_eq!(media.maps[1].range, Some((0, 100)));
    }

    #[test]
    fn a_range_without_a_beginning_continues_the_one_before() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-BYTERANGE:10@5\n#EXTINF:1,\na.ts\n#EXT-X-BYTERANGE:7\n#EXTINF:1,\n\
             a.ts\n#EXT-X-PART:DURATION=1,URI=\"a.ts\",BYTERANGE=\"3\"\n#EXT-X-ENDLIST\n",
        );
        let range =
            |index: usize| media.segments[index].resource.as_ref().and_then(|resource| resource.range);
        assert_eq!((range(0), range(1)), (Some((5, 10)), Some((15, 7))));
        assert_eq!(media.segments[2].parts[0].resource.range, Some((22, 3)));
        assert!(media.ended);
    }

    #[test]
    fn what_a_delta_leaves_out_is_counted() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=5\n#EXTINF:2,\nx\n",
        );
        assert_eq!((media.first, media.segments[0].number), (10, 15));
    }

    #[test]
    fn what_is_no_playlist_is_refused_with_its_line() {
        for (text, why) in [
            ("", "EXTM3U"),
            ("<html>", "EXTM3U"),
            ("#EXTM3U\n", "lists nothing"),
            ("#EXTM3U\n#EXTINF:x,\n", "line 2"),
            ("#EXTM3U\n#EXT-X-VERSION:3\na.ts\n", "line 3"),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:inf\n", "line 2"),
            ("#EXTM3U\n#EXT-X-PART:URI=\"a\"\n", "DURATION"),
            ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n", "encrypted"),
            ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:1,\na\n", "too high"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse(b"#EXTM3U\n\xff").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(lines in prop::collection::vec("(#EXT(INF|-X-(PART|MAP|SKIP|MEDIA|STREAM-INF|BYTERANGE|MEDIA-SEQUENCE)):)?[ -~]{0,30}", 0..20)) {
            let _ = parse(format!("#EXTM3U\n{}", lines.join("\n")).as_bytes());
        }
    }
}
