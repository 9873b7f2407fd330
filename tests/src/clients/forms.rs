//! The forms in which a stream comes out, each with a real player of it that follows the stream from its beginning to its
//! end, and what is demanded of what it read.

use std::{
    ops::Range,
    panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::{
    media::Clip,
    packaged,
    packets::{Packets, Run},
    process::{Ended, Process},
    program,
    server::Server,
    wait_for,
    web::{Web, get},
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RTMP.
    Rtmp,
    /// FLV by HTTP.
    Flv,
    /// MPEG-TS by HTTP.
    Ts,
    /// HLS.
    Hls,
    /// DASH.
    Dash,
    /// MPEG-TS by SRT.
    Srt,
}

/// A player to be.
#[derive(Clone, Debug)]
pub struct Player {
    /// What it plays.
    pub form: Form,
    /// Which ffmpeg it is, or judges what it kept.
    pub ffmpeg: &'static str,
    /// It comes when the playlist or manifest has this word.
    pub when: &'static str,
    /// Arguments before the input.
    pub input: &'static [&'static str],
    /// What it changes packets by.
    pub filters: Vec<&'static str>,
    /// Arguments behind the input and the filters.
    pub output: Vec<String>,
    /// It is our own ([`packaged`]), which keeps what it reads and has ffmpeg read that.
    pub own: bool,
}

/// What a player read.
#[derive(Debug)]
pub struct Reading {
    /// What it played.
    pub form: Form,
    /// It is our own.
    pub own: bool,
    /// What it got, where it is one that lists packets.
    pub packets: Option<Packets>,
    /// What it complained of.
    pub complaints: Vec<String>,
}

/// How long a player may take until it has something to play, and from then to its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// ffmpeg ends with the track of DASH that ends first. What it leaves of the other, microseconds.
const UNREAD_MAX: i64 = 100_000;
/// Sound that may be left out where a stream begins, microseconds.
const LEFT_OUT_MAX: i64 = 100_000;
/// Sound stands on the clock of its samples where it is packaged, and on milliseconds where it was published.
const ROUNDING: i64 = 2_000;

/// What ffmpeg says where nothing is wrong: it takes the same EXT-X-MAP of a list that it has loaded again for another one.
/// So it does with live lists that it has made itself.
const HARMLESS: (Form, &str) = (Form::Hls, "Found duplicated MOOV Atom. Skipped it");

impl Form {
    /// All.
    pub const ALL: [Form; 5] = [Form::Rtmp, Form::Flv, Form::Ts, Form::Hls, Form::Dash];

    /// Where `APP/STREAM` is played in this form.
    pub fn url(self, server: &Server, name: &str) -> String {
        match self {
            Form::Rtmp => server.rtmp_url(name),
            // Who comes before the publisher waits; libsrt would for three seconds.
            Form::Srt => format!("{}&connect_timeout=30000", server.srt_url("read", name)),
            _ => format!("http://127.0.0.1:{}{}", server.ports().http, self.path(name)),
        }
    }

    /// The path of that at the HTTP door.
    pub fn path(self, name: &str) -> String {
        match self {
            Form::Rtmp | Form::Srt => panic!("{self:?} has a door of its own"),
            Form::Flv => format!("/{name}.flv"),
            Form::Ts => format!("/{name}.ts"),
            Form::Hls => format!("/{name}/index.m3u8"),
            Form::Dash => format!("/{name}/manifest.mpd"),
        }
    }

    /// It is fetched by names, and not sent.
    pub fn is_packaged(self) -> bool {
        matches!(self, Form::Hls | Form::Dash)
    }

    /// It is a transport stream.
    pub fn is_transport(self) -> bool {
        matches!(self, Form::Ts | Form::Srt)
    }
}

impl Player {
    /// One that lists the packets of a clip, as [`Packets`] reads them.
    pub fn of(form: Form, clip: &Clip) -> Self {
        // Without `copyinkf` ffmpeg would drop what stands before the first key frame, and so hide a fault of ours.
        let words = "-map 0:v? -map 0:a? -c copy -copyinkf -f framehash -hash md5 -".split(' ');
        let filters = if form.is_transport() { clip.kind.of_transport() } else { Vec::new() };
        Player { filters, ..Self::with(form, clip.ffmpeg, words.map(str::to_owned).collect()) }
    }

    /// One of our own, whose packets are listed likewise.
    pub fn own(form: Form, clip: &Clip) -> Self {
        Player { own: true, ..Self::of(form, clip) }
    }

    /// One that keeps the bytes of a form that is sent as they come.
    pub fn keeping(form: Form, path: &Path) -> Self {
        let path = path.to_str().expect("paths of tests are ASCII");
        let words = ["-map", "0", "-c", "copy", "-f", "data", path];
        Player { input: &["-f", "data"], ..Self::with(form, "ffmpeg", words.map(str::to_owned).into()) }
    }

    /// One that does something else with what it reads.
    pub fn with(form: Form, ffmpeg: &'static str, output: Vec<String>) -> Self {
        let input: &[&str] = match form {
            // From the first segment that is listed, and not from the third from the end.
            Form::Hls => &["-live_start_index", "0"],
            Form::Rtmp | Form::Flv | Form::Ts | Form::Dash | Form::Srt => &[],
        };
        Player { form, ffmpeg, when: "", input, filters: Vec::new(), output, own: false }
    }

    /// The same, that comes when the playlist or manifest has this word.
    pub fn when(self, when: &'static str) -> Self {
        Player { when, ..self }
    }

    /// Starts it.
    pub fn start(&self, url: &str) -> Process {
        let mut command = Command::new(program(self.ffmpeg));
        command
            .args(["-nostdin", "-v", "repeat+warning", "-copyts"])
            .args(self.input)
            .args(["-i", url])
            .args(&self.filters);
        Process::start(&format!("{:?}-player", self.form), command.args(&self.output))
    }

    /// Plays to the end.
    fn play(&self, server: &Server, name: &str) -> Reading {
        if self.form.is_packaged() {
            self.wait(server, name);
        }
        if self.own {
            let kept = packaged::keep(&mut Web::connect(server), self.form, name);
            let packets = kept.packets(self.ffmpeg, &self.filters);
            return Reading { form: self.form, own: true, packets: Some(packets), complaints: Vec::new() };
        }
        let Ended { output, errors, .. } = self.start(&self.form.url(server, name)).succeed(PATIENCE);
        let (form, words) = HARMLESS;
        let harmless = |line: &&str| form == self.form && line.contains(words);
        let lines = errors.lines().filter(|line| !line.trim().is_empty() && !harmless(line));
        let complaints = lines.map(str::to_owned).collect();
        let packets = output.starts_with('#').then(|| Packets::parse(&output));
        Reading { form: self.form, own: false, packets, complaints }
    }

    /// Waits until there is something to play. For ffmpeg and DASH that is the end: it believes that a manifest that was
    /// dynamic once stays so, asks for one segment after the other beyond the last, and reads the last again and again.
    fn wait(&self, server: &Server, name: &str) {
        let path = self.form.path(name);
        let word = if self.form == Form::Dash && !self.own { "type=\"static\"" } else { self.when };
        let there = wait_for(PATIENCE, || {
            let page = get(server, &path);
            (page.status == 200 && page.text().contains(word)).then_some(())
        });
        assert!(there.is_some(), "{path} is not there after {PATIENCE:?}, or has no {word:?}");
    }
}

/// Has each of `players` follow the stream from its beginning to its end while `publish` publishes it.
///
/// # Panics
/// When one of them does not come to the end.
pub fn follow(server: &Server, name: &str, players: &[Player], publish: impl FnOnce()) -> Vec<Reading> {
    thread::scope(|scope| {
        let playing: Vec<_> =
            players.iter().map(|player| scope.spawn(move || player.play(server, name))).collect();
        publish();
        let ended: Vec<_> = playing.into_iter().map(|player| player.join()).collect();
        ended.into_iter().map(|reading| reading.unwrap_or_else(|panic| panic::resume_unwind(panic))).collect()
    })
}

/// What a clip should look like in each form.
#[derive(Clone)]
pub struct Expected {
    packets: Packets,
    transport: Packets,
    /// How far a player of a packaged form may begin behind the beginning, microseconds.
    behind: i64,
}

impl Expected {
    /// All of a clip.
    pub fn of(clip: &Clip) -> Self {
        Expected { packets: clip.packets.clone(), transport: clip.transport(), behind: 0 }
    }

    /// Its pictures alone.
    pub fn pictures(mut self) -> Self {
        self.packets.audio.clear();
        self.transport.audio.clear();
        self
    }

    /// Without the pictures and the sound that are decoded in these microseconds, as packaged forms have it.
    pub fn without(mut self, pictures: &Range<i64>, sound: &Range<i64>) -> Self {
        self.packets.video.retain(|packet| !pictures.contains(&packet.dts));
        self.packets.audio.retain(|packet| !sound.contains(&packet.dts));
        self
    }

    /// A player of a packaged form may leave out pictures of the beginning, of at most so many microseconds.
    pub fn behind(self, behind: i64) -> Self {
        Expected { behind, ..self }
    }

    /// As this form has it.
    pub fn form(&self, form: Form) -> &Packets {
        if form.is_transport() { &self.transport } else { &self.packets }
    }

    /// Demands that all players read the clip, from its beginning to its end, and complained of nothing.
    ///
    /// # Panics
    /// With the forms for which that is not so; what it is stands before.
    pub fn assert_all_read(&self, readings: &[Reading]) {
        let failed = readings.iter().filter(|reading| {
            let judged = panic::catch_unwind(panic::AssertUnwindSafe(|| self.assert_read(reading)));
            judged.is_err()
        });
        let failed: Vec<Form> = failed.map(|reading| reading.form).collect();
        assert!(failed.is_empty(), "not as it was published: {failed:?}");
    }

    /// Demands that a player read the clip, from its beginning to its end, and complained of nothing.
    ///
    /// # Panics
    /// With the first difference.
    pub fn assert_read(&self, reading: &Reading) {
        let form = reading.form;
        let got = reading.packets.as_ref().expect("the player lists packets");
        println!("{form:?}{}: {got}", if reading.own { ", our own" } else { "" });
        assert!(reading.complaints.is_empty(), "{form:?}: the player complains: {:?}", reading.complaints);
        let ffmpeg_of_dash = form == Form::Dash && !reading.own;
        self.assert_up_to(form, got, if ffmpeg_of_dash { UNREAD_MAX } else { 0 });
    }

    /// Demands that these packets are the clip's, from its beginning to its end.
    ///
    /// # Panics
    /// With the first difference.
    pub fn assert_whole(&self, form: Form, got: &Packets) {
        self.assert_up_to(form, got, 0);
    }

    /// One of the tracks may have so much unread, the other nothing.
    fn assert_up_to(&self, form: Form, got: &Packets, unread_max: i64) {
        let source = self.form(form);
        if !form.is_packaged() {
            return got.assert_equal(source, 0);
        }
        let (video, audio) = got.assert_run(source, ROUNDING);
        let begin = [source.video.first(), source.audio.first()].into_iter().flatten().map(|it| it.dts).min();
        let mut least_unread = i64::MAX;
        for (what, run, source, missed_max) in [
            ("pictures", video, &source.video, self.behind),
            // Sound before the first picture has nothing to be played with.
            ("sound", audio, &source.audio, self.behind.max(LEFT_OUT_MAX)),
        ] {
            let Some(Run { first, count }) = run else {
                assert!(source.is_empty(), "{form:?}: no {what}");
                continue;
            };
            let missed = source.get(first).zip(begin).map(|(it, begin)| it.dts - begin);
            assert!(
                first == 0 || missed <= Some(missed_max),
                "{form:?}: {what} from {first} on, {missed:?} us in"
            );
            let unread =
                source.last().zip(source.get(first + count - 1)).map(|(last, read)| last.dts - read.dts);
            let unread = unread.expect("a run lies inside its source");
            assert!(unread <= unread_max, "{form:?}: {what} up to {} of {}", first + count, source.len());
            least_unread = least_unread.min(unread);
        }
        assert_eq!(least_unread, 0, "{form:?}: not even one track was read to its end");
    }
}

/// The bytes of streams that are sent, each kept in a file of `folder` by a player.
pub fn keepers(folder: &Path, forms: &[Form]) -> Vec<(Player, PathBuf)> {
    let path = |form: &Form| folder.join(format!("{form:?}").to_lowercase());
    forms.iter().map(|form| (Player::keeping(*form, &path(form)), path(form))).collect()
}
