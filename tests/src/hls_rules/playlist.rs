//! Reads a media playlist. It takes what it can get: what is wrong is for the rules to say, and they see every line.

/// A media playlist.
#[derive(Clone, Debug, Default)]
pub struct Playlist<'a> {
    /// All of it.
    pub lines: Vec<Line<'a>>,
    /// EXT-X-VERSION; 1 where it is not said.
    pub version: u64,
    /// EXT-X-TARGETDURATION, seconds.
    pub target: Option<u64>,
    /// EXT-X-MEDIA-SEQUENCE.
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// EXT-X-SERVER-CONTROL.
    pub control: Option<Attributes<'a>>,
    /// PART-TARGET, nanoseconds.
    pub part_target: Option<u64>,
    /// SKIPPED-SEGMENTS of EXT-X-SKIP.
    pub skipped: u64,
    /// Those that have an address.
    pub segments: Vec<Segment<'a>>,
    /// What stands behind the last of them: parts of the next, if there are any.
    pub open: Segment<'a>,
    /// EXT-X-PRELOAD-HINT.
    pub hints: Vec<Attributes<'a>>,
    /// EXT-X-RENDITION-REPORT.
    pub reports: Vec<Attributes<'a>>,
    /// EXT-X-ENDLIST.
    pub ended: bool,
}

/// A segment, with what applies to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its Media Sequence Number.
    pub number: u64,
    /// Its Discontinuity Sequence Number.
    pub period: u64,
    /// EXT-X-DISCONTINUITY stands before it.
    pub discontinuity: bool,
    /// The EXT-X-MAP in force.
    pub map: Option<&'a str>,
    /// EXT-X-PROGRAM-DATE-TIME, nanoseconds since 1970.
    pub date: Option<i128>,
    /// EXT-X-GAP.
    pub gap: bool,
    /// EXTINF, nanoseconds.
    pub duration: Option<u64>,
    /// What stands behind the comma of EXTINF.
    pub title: &'a str,
    /// Its address; none as long as it is open.
    pub uri: Option<&'a str>,
    /// EXT-X-PART.
    pub parts: Vec<Part<'a>>,
    /// A tag that applies to the whole of it stands behind one of its parts.
    pub late_tag: Option<&'a str>,
}

/// A part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its address.
    pub uri: &'a str,
    /// Nanoseconds.
    pub duration: u64,
    /// INDEPENDENT=YES.
    pub independent: bool,
    /// GAP=YES.
    pub gap: bool,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing.
    Blank,
    /// `#` and something else than `EXT`.
    Comment(&'a str),
    /// A tag without its `#`, and what stands behind its colon.
    Tag(&'a str, &'a str),
    /// Anything else.
    Uri(&'a str),
}

/// An attribute list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a>(pub Vec<(&'a str, Value<'a>)>);

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Between double quotes, without them.
    Quoted(&'a str),
    /// Any other.
    Plain(&'a str),
}

impl<'a> Playlist<'a> {
    /// Reads it.
    pub fn read(text: &'a str) -> Self {
        let lines: Vec<Line<'a>> = text.lines().map(Line::read).collect();
        let mut playlist = Playlist { version: 1, ..Playlist::default() };
        // Numbers are said before the segments that they count, where they are said at all.
        for line in &lines {
            if let Line::Tag(name, value) = line {
                playlist.head(name, value);
            }
        }
        let mut segment = playlist.next_segment(None);
        for line in &lines {
            match *line {
                Line::Tag(name, value) => segment.tag(name, value),
                Line::Uri(uri) => {
                    segment.uri = Some(uri);
                    let next = playlist.next_segment(Some(&segment));
                    playlist.segments.push(std::mem::replace(&mut segment, next));
                }
                Line::Blank | Line::Comment(_) => {}
            }
        }
        playlist.open = segment;
        playlist.lines = lines;
        playlist
    }

    fn head(&mut self, name: &str, value: &'a str) {
        let number = || integer(value);
        let attributes = || Attributes::read(value).unwrap_or_default();
        match name {
            "EXT-X-VERSION" => self.version = number().unwrap_or(1),
            "EXT-X-TARGETDURATION" => self.target = number(),
            "EXT-X-MEDIA-SEQUENCE" => self.media_sequence = number().unwrap_or(0),
            "EXT-X-DISCONTINUITY-SEQUENCE" => self.discontinuity_sequence = number().unwrap_or(0),
            "EXT-X-SERVER-CONTROL" => self.control = Some(attributes()),
            "EXT-X-PART-INF" => self.part_target = attributes().nanos("PART-TARGET"),
            "EXT-X-SKIP" => self.skipped = attributes().integer("SKIPPED-SEGMENTS").unwrap_or(0),
            "EXT-X-PRELOAD-HINT" => self.hints.push(attributes()),
            "EXT-X-RENDITION-REPORT" => self.reports.push(attributes()),
            "EXT-X-ENDLIST" => self.ended = true,
            _ => {}
        }
    }

    fn next_segment(&self, before: Option<&Segment<'a>>) -> Segment<'a> {
        Segment {
            number: before.map_or(self.media_sequence + self.skipped, |before| before.number + 1),
            period: before.map_or(self.discontinuity_sequence, |before| before.period),
            map: before.and_then(|before| before.map),
            ..Segment::default()
        }
    }

    /// All segments, the open one last.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Segment<'a>> {
        self.segments.iter().chain([&self.open])
    }

    /// The segment of this number.
    pub fn segment(&self, number: u64) -> Option<&Segment<'a>> {
        self.all().find(|segment| segment.number == number)
    }

    /// Its segments are MPEG-TS.
    pub fn is_of_transport(&self) -> bool {
        let path = |uri: &'a str| uri.split('?').next().unwrap_or(uri);
        self.segments.iter().filter_map(|segment| segment.uri).any(|uri| path(uri).ends_with(".ts"))
    }

    /// How long it is, nanoseconds, the parts of the open segment among it.
    pub fn duration(&self) -> u64 {
        self.all().map(Segment::length).sum()
    }

    /// The place of the newest part, or of the newest segment where its parts are not listed: a segment's number, and which
    /// of its parts.
    pub fn newest(&self) -> Option<(u64, Option<u64>)> {
        let last = self.all().rev().find(|segment| segment.uri.is_some() || !segment.parts.is_empty())?;
        Some((last.number, (last.parts.len() as u64).checked_sub(1)))
    }

    /// The address that is hinted at.
    pub fn hint(&self) -> Option<&'a str> {
        self.hints.iter().find(|hint| hint.plain("TYPE") == Some("PART"))?.quoted("URI")
    }
}

impl<'a> Segment<'a> {
    fn tag(&mut self, name: &'a str, value: &'a str) {
        let attributes = || Attributes::read(value).unwrap_or_default();
        let applies_to_all =
            ["EXT-X-DISCONTINUITY", "EXT-X-KEY", "EXT-X-MAP", "EXT-X-PROGRAM-DATE-TIME"].contains(&name);
        if applies_to_all && !self.parts.is_empty() {
            self.late_tag = Some(name);
        }
        match name {
            "EXT-X-DISCONTINUITY" => {
                self.discontinuity = true;
                self.period += 1;
            }
            "EXT-X-MAP" => self.map = attributes().quoted("URI"),
            "EXT-X-PROGRAM-DATE-TIME" => self.date = date(value),
            "EXT-X-GAP" => self.gap = true,
            "EXTINF" => {
                let (duration, title) = value.split_once(',').unwrap_or((value, ""));
                (self.duration, self.title) = (nanos(duration), title);
            }
            "EXT-X-PART" => {
                let attributes = attributes();
                self.parts.push(Part {
                    uri: attributes.quoted("URI").unwrap_or_default(),
                    duration: attributes.nanos("DURATION").unwrap_or(0),
                    independent: attributes.plain("INDEPENDENT") == Some("YES"),
                    gap: attributes.plain("GAP") == Some("YES"),
                });
            }
            _ => {}
        }
    }

    /// How long it is, nanoseconds; of an open one, how long its parts are.
    pub fn length(&self) -> u64 {
        self.duration.unwrap_or_else(|| self.parts.iter().map(|part| part.duration).sum())
    }
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        match line.strip_prefix('#') {
            None if line.is_empty() => Line::Blank,
            None => Line::Uri(line),
            Some(tag) if tag.starts_with("EXT") => {
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                Line::Tag(name, value)
            }
            Some(comment) => Line::Comment(comment),
        }
    }
}

impl<'a> Attributes<'a> {
    /// Reads an attribute list. (4.2)
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(list: &'a str) -> Result<Self, String> {
        let mut attributes: Vec<(&str, Value<'_>)> = Vec::new();
        let mut rest = list;
        loop {
            let (name, after) = rest.split_once('=').ok_or(format!("no `=` in {rest:?}"))?;
            let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(legal) {
                return Err(format!("an attribute is called {name:?}"));
            }
            if attributes.iter().any(|(known, _)| *known == name) {
                return Err(format!("{name} stands twice"));
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) =
                        quoted.split_once('"').ok_or(format!("{name} has no closing quote"))?;
                    (Value::Quoted(value), after)
                }
                None => {
                    let (value, after) = after.split_at(after.find(',').unwrap_or(after.len()));
                    if value.is_empty()
                        || value.contains(|character: char| character == '"' || character.is_whitespace())
                    {
                        return Err(format!("{name} has the value {value:?}"));
                    }
                    (Value::Plain(value), after)
                }
            };
            attributes.push((name, value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Attributes(attributes)),
                None => return Err(format!("{after:?} stands behind {name}")),
            }
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// A quoted-string.
    pub fn quoted(&self, name: &str) -> Option<&'a str> {
        if let Some(Value::Quoted(value)) = self.get(name) { Some(value) } else { None }
    }

    /// Anything but a quoted-string.
    pub fn plain(&self, name: &str) -> Option<&'a str> {
        if let Some(Value::Plain(value)) = self.get(name) { Some(value) } else { None }
    }

    /// A decimal-integer.
    pub fn integer(&self, name: &str) -> Option<u64> {
        self.plain(name).and_then(integer)
    }

    /// A decimal-floating-point number of seconds, in nanoseconds.
    pub fn nanos(&self, name: &str) -> Option<u64> {
        self.plain(name).and_then(nanos)
    }
}

/// A decimal-integer. (4.2)
pub fn integer(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A decimal-floating-point number of seconds (4.2), in nanoseconds.
pub fn nanos(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction_digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (whole, fraction) = (integer(whole)?, fraction_digits.then(|| integer(&nine)).flatten()?);
    whole.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// A date of ISO/IEC 8601 with a time zone, as nanoseconds since 1970. (4.4.4.6)
pub fn date(text: &str) -> Option<i128> {
    let (day, time) = text.split_once('T')?;
    let mut numbers = day.split('-').map(integer);
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let (clock, zone) = match time.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let place = time.rfind(['+', '-'])?;
            let (clock, zone) = time.split_at(place);
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = i128::from(integer(hours)? * 3600 + integer(minutes)? * 60);
            (clock, if zone.starts_with('-') { -offset } else { offset })
        }
    };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (integer(parts.next()?)?, integer(parts.next()?)?, nanos(parts.next()?)?);
    let legal = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    // Years from March, so that the leap day is the last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1;
    let seconds = i128::from(days) * 86_400 - 719_468 * 86_400 + i128::from(hour * 3600 + minute * 60) - zone;
    legal.then_some(seconds * 1_000_000_000 + i128::from(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_decimals_are_read_exactly() {
        assert_eq!(date("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(date("2026-11-22T07:45:00.123Z"), Some(1_795_333_500_123_000_000));
        assert_eq!(date("2026-11-22T09:15:00.123+01:30"), Some(1_795_333_500_123_000_000));
        assert_eq!(date("2000-02-29T00:00:00Z"), Some(951_782_400_000_000_000));
        for broken in
            ["", "2026-11-22", "2026-11-22T07:45:00", "2026-13-22T07:45:00Z", "2026-11-22 07:45:00Z"]
        {
            assert_eq!(date(broken), None, "{broken}");
        }
        assert_eq!(
            [nanos("2"), nanos("2.5"), nanos("0.000001")],
            [Some(2_000_000_000), Some(2_500_000_000), Some(1000)]
        );
        assert_eq!([nanos(""), nanos("-1"), nanos("1."), nanos(".5"), nanos("1e3"), nanos("+1")], [None; 6]);
    }

    #[test]
    fn attribute_lists_are_read_or_refused() {
        let list = Attributes::read("URI=\"a,b=c\",DURATION=0.2,INDEPENDENT=YES").unwrap();
        assert_eq!(list.quoted("URI"), Some("a,b=c"));
        assert_eq!((list.nanos("DURATION"), list.plain("INDEPENDENT")), (Some(200_000_000), Some("YES")));
        assert_eq!((list.plain("URI"), list.quoted("DURATION"), list.get("GAP")), (None, None, None));
        for broken in
            ["", "A", "A=", "=1", "a=1", "A=1,", "A=1,A=2", "A=\"1", "A=\"1\"2", "A=1 ,B=2", "A=1\"2"]
        {
            assert!(Attributes::read(broken).is_err(), "{broken}");
        }
    }
}
