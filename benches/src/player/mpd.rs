//! DASH manifests (ISO/IEC 23009-1): what is listed where, for live streams whose segments stand in a timeline. Of each kind
//! of media the first adaptation set of a period is taken, and of that the first representation.

use std::{rc::Rc, time::Duration};

use roxmltree::{Document, Node};

use super::{Item, Place, Resource, uri};
use crate::url::Url;

/// A manifest, ready to be asked for. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// More will come.
    pub dynamic: bool,
    /// `minimumUpdatePeriod`.
    pub update: Option<Duration>,
    /// `suggestedPresentationDelay`.
    pub delay: Option<f64>,
    /// `availabilityStartTime`, UTC since 1970.
    pub available: Option<f64>,
    /// Pictures (or all there is), and sound.
    pub sets: Vec<Set>,
}

/// The segments of one kind of media.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// In order, over all periods.
    pub items: Vec<Item>,
    /// `availabilityTimeOffset`: how much earlier than it is whole a segment can be asked for.
    pub early: f64,
    /// `availabilityTimeComplete` is false: what is asked for earlier grows while it is sent.
    pub grows: bool,
}

/// Segments of a manifest: more than a day of them.
const ITEMS_MAX: usize = 100_000;
const MICROSECONDS: f64 = 1e6;
/// Far more than any time of a stream, and no trouble for a `Duration`.
const SECONDS_MAX: f64 = 1e12;
const PICTURES: &str = "video";
const SOUND: &str = "audio";

/// Reads a manifest that came from `base`.
///
/// # Errors
/// What is wrong, or not read here.
pub fn parse(text: &[u8], base: &Url) -> Result<Manifest, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the manifest is no text".to_owned())?;
    let document = Document::parse(text).map_err(|error| format!("the manifest is no XML: {error}"))?;
    let mpd = document.root_element();
    if mpd.tag_name().name() != "MPD" {
        return Err("it does not hold an MPD: it is no manifest".to_owned());
    }
    let time = |name| mpd.attribute(name).map(duration).transpose();
    let mut manifest = Manifest {
        dynamic: mpd.attribute("type") == Some("dynamic"),
        update: time("minimumUpdatePeriod")?.map(Duration::from_secs_f64),
        delay: time("suggestedPresentationDelay")?,
        available: mpd.attribute("availabilityStartTime").map(date).transpose()?,
        sets: Vec::new(),
    };
    let base = within(base, mpd)?;
    let (mut pictures, mut sound) = (Set::default(), Set::default());
    let mut end = 0.0;
    for (index, period) in children(mpd, "Period").enumerate() {
        let start = period.attribute("start").map_or(Ok(end), duration)?;
        end = start + period.attribute("duration").map_or(Ok(0.0), duration)?;
        let base = within(&base, period)?;
        for (kind, set) in [(PICTURES, &mut pictures), (SOUND, &mut sound)] {
            if let Some(found) = children(period, "AdaptationSet").find(|set| kind_of(*set) == Some(kind)) {
                set.read(period, found, start, &base, index > 0)?;
            }
        }
    }
    manifest.sets = [pictures, sound].into_iter().filter(|set| !set.items.is_empty()).collect();
    Ok(manifest)
}

impl Set {
    fn read(
        &mut self,
        period: Node<'_, '_>,
        set: Node<'_, '_>,
        start: f64,
        base: &Url,
        later: bool,
    ) -> Result<(), String> {
        let representation =
            children(set, "Representation").next().ok_or("an adaptation set without a representation")?;
        let base = within(&within(base, set)?, representation)?;
        // What the nearest says holds. (5.3.9.1)
        let chain = [representation, set, period];
        let templates: Vec<Node<'_, '_>> =
            chain.iter().filter_map(|node| children(*node, "SegmentTemplate").next()).collect();
        let attribute = |name: &str| templates.iter().find_map(|template| template.attribute(name));
        let number = |name: &str, default: u64| attribute(name).map_or(Ok(default), whole);
        let timeline = templates.iter().find_map(|template| children(*template, "SegmentTimeline").next());
        let timeline = timeline.ok_or("the manifest has no SegmentTimeline: other addressing is not read")?;
        let media = attribute("media").ok_or("a SegmentTemplate without media")?;
        let scale = number("timescale", 1)?.max(1) as f64;
        let (first, offset) = (number("startNumber", 1)?, number("presentationTimeOffset", 0)?);
        self.early = attribute("availabilityTimeOffset").map_or(Ok(0.0), |text| match text {
            "INF" => Ok(f64::INFINITY),
            text => text.parse().map_err(|_| format!("{text:?} is no offset of time")),
        })?;
        self.grows = attribute("availabilityTimeComplete") == Some("false");
        let names = Names {
            id: representation.attribute("id").unwrap_or_default(),
            bandwidth: representation.attribute("bandwidth").unwrap_or_default(),
        };
        let resource = |template: &str, number: u64, time: u64| -> Result<Rc<Resource>, String> {
            let name = names.fill(template, number, time)?;
            Ok(Rc::new(Resource { url: Rc::new(uri::resolve(&base, &name)?), range: None }))
        };
        let init = attribute("initialization").map(|template| resource(template, 0, 0)).transpose()?;
        let (mut time, mut number, mut is_first) = (0_u64, first, true);
        for entry in children(timeline, "S") {
            let value = |name: &str| entry.attribute(name).map(whole).transpose();
            time = value("t")?.unwrap_or(time);
            number = value("n")?.unwrap_or(number);
            let length = value("d")?.filter(|length| *length > 0).ok_or("an S without its d")?;
            let repeats = value("r").map_err(|_| "a timeline that repeats without an end is not read")?;
            for _ in 0..=repeats.unwrap_or(0) {
                let place = Place((start * MICROSECONDS) as u64, time);
                if self.items.last().is_some_and(|last| last.place >= place) {
                    return Err("a timeline that goes back".to_owned());
                }
                if self.items.len() == ITEMS_MAX {
                    return Err("too many segments".to_owned());
                }
                self.items.push(Item {
                    place,
                    resource: Resource::clone(&*resource(media, number, time)?),
                    init: init.clone(),
                    begins: start + (time as f64 - offset as f64) / scale,
                    duration: length as f64 / scale,
                    entrance: true,
                    gap: false,
                    discontinuity: later && is_first,
                });
                is_first = false;
                let next = (time.checked_add(length), number.checked_add(1));
                let (Some(next_time), Some(next_number)) = next else {
                    return Err("a time that is too far".to_owned());
                };
                (time, number) = (next_time, next_number);
            }
        }
        Ok(())
    }
}

fn children<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

/// The base of what stands in an element (5.6).
fn within(base: &Url, node: Node<'_, '_>) -> Result<Url, String> {
    match children(node, "BaseURL").next().and_then(|base| base.text()) {
        Some(relative) => uri::resolve(base, relative),
        None => Ok(base.clone()),
    }
}

/// What kind of media an adaptation set has.
fn kind_of(set: Node<'_, '_>) -> Option<&'static str> {
    let of = |node: Node<'_, '_>| {
        let named = node.attribute("contentType").or(node.attribute("mimeType"))?;
        [PICTURES, SOUND].into_iter().find(|kind| named.starts_with(kind))
    };
    of(set).or_else(|| children(set, "Representation").find_map(of))
}

struct Names<'a> {
    id: &'a str,
    bandwidth: &'a str,
}

impl Names<'_> {
    /// Puts in what stands between dollars (5.3.9.4.4).
    fn fill(&self, template: &str, number: u64, time: u64) -> Result<String, String> {
        let mut out = String::new();
        for (index, piece) in template.split('$').enumerate() {
            let (name, width) = piece.split_once("%0").unwrap_or((piece, ""));
            let digits = || width.strip_suffix('d').unwrap_or("1").parse::<usize>().unwrap_or(1).min(20);
            match name {
                _ if index % 2 == 0 => out.push_str(piece),
                "" => out.push('$'),
                "RepresentationID" => out.push_str(self.id),
                "Bandwidth" => out.push_str(self.bandwidth),
                "Number" => out.push_str(&format!("{number:0width$}", width = digits())),
                "Time" => out.push_str(&format!("{time:0width$}", width = digits())),
                other => return Err(format!("nobody knows ${other}$")),
            }
        }
        Ok(out)
    }
}

fn whole(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no whole number"))
}

/// Seconds of a duration as XML Schema writes it: `P1DT2H3M4.5S`. A month has thirty days.
fn duration(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no duration");
    let rest = text.trim().strip_prefix('P').ok_or_else(bad)?;
    let (date, time) = rest.split_once('T').unwrap_or((rest, ""));
    let mut sum = 0.0;
    for (part, units) in [
        (date, [('Y', 365.0 * 86_400.0), ('M', 30.0 * 86_400.0), ('D', 86_400.0)]),
        (time, [('H', 3600.0), ('M', 60.0), ('S', 1.0)]),
    ] {
        let mut rest = part;
        for (unit, scale) in units {
            let Some((number, after)) = rest.split_once(unit) else { continue };
            // Some count from 1970.
            let number = number.parse::<f64>().ok().filter(|number| (0.0..SECONDS_MAX).contains(number));
            sum += number.ok_or_else(bad)? * scale;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(bad());
        }
    }
    if sum < SECONDS_MAX { Ok(sum) } else { Err(bad()) }
}

/// Seconds since 1970 of a date as XML Schema writes it, in UTC: `2026-11-22T07:45:00.123Z`.
fn date(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no date in UTC");
    let bare = text.trim().trim_end_matches('Z').trim_end_matches("+00:00");
    let (day, time) = bare.split_once('T').ok_or_else(bad)?;
    let mut numbers = day.split('-').map(|part| part.parse::<i64>().ok());
    let mut next = || numbers.next().flatten().ok_or_else(bad);
    let (year, month, day) = (next()?, next()?, next()?);
    if !(1970..3000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(bad());
    }
    let mut parts =
        time.split(':').map(|part| part.parse::<f64>().ok().filter(|part| (0.0..61.0).contains(part)));
    let mut next = || parts.next().flatten().ok_or_else(bad);
    let (hour, minute, second) = (next()?, next()?, next()?);
    // Days of the Gregorian calendar, whose years are taken to begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIVE: &str = r#"<?xml version="1.0"?>
        <MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="2026-11-22T07:45:00.250Z"
             minimumUpdatePeriod="PT2S" suggestedPresentationDelay="PT1M0.5S">
          <BaseURL>cam/</BaseURL>
          <Period id="0" start="PT0S">
            <AdaptationSet contentType="video">
              <SegmentTemplate timescale="1000" media="$RepresentationID$-$Time$.m4s?b=$Bandwidth$" initialization="$RepresentationID$.mp4"
                               availabilityTimeOffset="1.8" availabilityTimeComplete="false">
                <SegmentTimeline><S t="4000" d="2000" r="1"/><S d="1500"/></SegmentTimeline>
              </SegmentTemplate>
              <Representation id="v" bandwidth="9"/><Representation id="w"/>
            </AdaptationSet>
            <AdaptationSet>
              <Representation id="a" mimeType="audio/mp4">
                <SegmentTemplate timescale="48000" media="a$$-$Number%05d$.m4s" startNumber="7">
                  <SegmentTimeline><S t="192000" d="96000"/></SegmentTimeline>
                </SegmentTemplate>
              </Representation>
            </AdaptationSet>
          </Period>
          <Period start="PT7.5S">
            <AdaptationSet mimeType="video/mp4">
              <SegmentTemplate media="n$Number$.m4s" presentationTimeOffset="10" startNumber="9" initialization="n.mp4">
                <SegmentTimeline><S t="10" d="2"/></SegmentTimeline>
              </SegmentTemplate>
              <Representation id="n"/>
            </AdaptationSet>
          </Period>
        </MPD>"#;

    fn read(text: &str) -> Result<Manifest, String> {
        parse(text.as_bytes(), &Url::parse("http://h:80/live/manifest.mpd?k=1").unwrap())
    }

    #[test]
    fn a_live_manifest_lists_the_segments_of_all_its_periods() {
        let manifest = read(LIVE).unwrap();
        assert!(manifest.dynamic);
        assert_eq!((manifest.update, manifest.delay), (Some(Duration::from_secs(2)), Some(60.5)));
        assert_eq!(manifest.available, Some(1_795_333_500.25));
        let [video, audio] = &manifest.sets[..] else { panic!("two sets") };
        let paths: Vec<_> = video.items.iter().map(|item| item.resource.url.path.as_str()).collect();
        let wanted = ["v-4000.m4s?b=9", "v-6000.m4s?b=9", "v-8000.m4s?b=9", "n9.m4s"];
        assert_eq!(paths, wanted.map(|name| format!("/live/cam/{name}")));
        let times: Vec<_> = video.items.iter().map(|item| (item.begins, item.duration)).collect();
        assert_eq!(times, [(4.0, 2.0), (6.0, 2.0), (8.0, 1.5), (7.5, 2.0)]);
        let later: Vec<_> = video.items.iter().map(|item| item.discontinuity).collect();
        assert_eq!(later, [false, false, false, true]);
        assert_eq!(video.items[3].init.as_ref().unwrap().url.path, "/live/cam/n.mp4");
        assert_eq!(audio.items[0].resource.url.path, "/live/cam/a$-00007.m4s");
        assert_eq!((audio.items[0].begins, audio.items[0].init.as_ref()), (4.0, None));
        assert!(video.items.is_sorted_by_key(|item| item.place));
    }

    #[test]
    fn what_is_asked_for_early_is_said_by_the_template() {
        let one = LIVE.split("<Period start").next().unwrap().to_owned() + "</MPD>";
        let manifest = read(&one).unwrap();
        assert_eq!((manifest.sets[0].early, manifest.sets[0].grows), (1.8, true));
        assert_eq!((manifest.sets[1].early, manifest.sets[1].grows), (0.0, false));
    }

    #[test]
    fn what_is_not_read_is_told() {
        for (from, to, why) in [
            ("<MPD", "<DPM", "no XML"),
            (
                "<SegmentTimeline><S t=\"4000\" d=\"2000\" r=\"1\"/><S d=\"1500\"/></SegmentTimeline>",
                "",
                "SegmentTimeline",
            ),
            ("r=\"1\"", "r=\"-1\"", "without an end"),
            ("r=\"1\"", "r=\"99999999999\"", "too many"),
            ("<S d=\"1500\"/>", "<S t=\"1\" d=\"1500\"/>", "goes back"),
            ("d=\"1500\"", "d=\"0\"", "its d"),
            ("$Time$", "$Tim$", "$Tim$"),
            ("PT2S", "2S", "no duration"),
            ("2026-11-22T07", "2026-11-22", "no date"),
        ] {
            assert!(LIVE.contains(from), "{from}");
            let error = read(&LIVE.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
        assert!(read("<x/>").unwrap_err().contains("MPD"));
    }

    #[test]
    fn durations_and_dates_are_read() {
        for (text, seconds) in [
            ("PT0S", 0.0),
            ("P1DT1H1M1.5S", 90_061.5),
            ("P0Y0M0DT0H3M30.000S", 210.0),
            ("PT4M", 240.0),
            ("PT1795883993.5S", 1_795_883_993.5),
        ] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "P", "PT", "T1S", "PT1", "PT-1S", "PTinfS", "PT1S2M"] {
            assert!(duration(text).is_err() == !matches!(text, "P" | "PT"), "{text}");
        }
        assert_eq!(date("1970-01-01T00:00:00Z"), Ok(0.0));
        assert_eq!(date("2000-02-29T12:00:00"), Ok(951_825_600.0));
        assert!(date("2026-13-01T00:00:00Z").is_err() && date("2026-01-01").is_err());
    }

    proptest! {
        #[test]
        fn no_manifest_panics(at in any::<prop::sample::Index>(), with in "[ -~]{0,12}", length in 0usize..20) {
            let at = at.index(LIVE.len());
            let end = (at + length).min(LIVE.len());
            let _ = read(&format!("{}{with}{}", &LIVE[..at], &LIVE[end..]));
            let _ = duration(&with);
            let _ = date(&with);
        }
    }
}
