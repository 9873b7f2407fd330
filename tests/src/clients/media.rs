//! Clips to publish, made by ffmpeg when first asked for and kept below the target directory.

use std::{fs, path::PathBuf, process::Command, sync::Mutex, time::Duration};

use super::{packets::Packets, process::Process, process::run, program, target};

/// What a clip holds. All are 25 pictures a second with a key frame each [`GROUP`], every picture different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// H.264 with two B-frames between references, and AAC.
    H264,
    /// The same with so much noise that a second takes close to a megabyte.
    H264Heavy,
    /// H.264, and MP3.
    Mp3,
    /// AAC alone.
    Sound,
    /// HEVC with B-frames, and AAC.
    Hevc,
    /// VVC with B-frames, and AAC.
    Vvc,
    /// AV1 and Opus.
    Av1,
    /// VP9 and Opus.
    Vp9,
}

/// Pictures from one key frame to the next: two seconds.
pub const GROUP: usize = 50;

/// A clip of that many seconds, as an FLV file.
pub struct Clip {
    /// Where it is.
    pub path: PathBuf,
    /// The ffmpeg that can read it.
    pub ffmpeg: &'static str,
    /// Its packets, as they should come out.
    pub packets: Packets,
}

impl Clip {
    /// The clip of that kind and length.
    ///
    /// # Panics
    /// When ffmpeg cannot make it.
    pub fn of(kind: Kind, seconds: u32) -> Self {
        let folder = target().join("interop").join("media");
        fs::create_dir_all(&folder).expect("a folder below the target directory can be made");
        let path = folder.join(format!("{kind:?}-{seconds}.flv").to_lowercase());
        let ffmpeg = kind.ffmpeg();
        // One at a time: encoders take every core, and tests of one program often want the same clip.
        static MAKING: Mutex<()> = Mutex::new(());
        let guard = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !path.exists() {
            // Another test program may make it at the same time; a rename leaves one of two equal files.
            let draft = path.with_extension(format!("{}.flv", std::process::id()));
            let mut command = Command::new(program(ffmpeg));
            command.args(["-nostdin", "-v", "error", "-y"]).args(kind.recipe(seconds).split_whitespace());
            command.args(["-f", "flv", "-flvflags", "no_duration_filesize"]).arg(&draft);
            run("ffmpeg-clip", &mut command, Duration::from_secs(300));
            fs::rename(&draft, &path).expect("a rename inside a folder");
        }
        drop(guard);
        // ffmpeg leaves temporal delimiters in FLV. MP4 forbids them (AV1 in ISOBMFF 2.4), a frame here is an MP4 sample,
        // and so what is expected of a server is the clip without them.
        let filters: &[&str] = if kind == Kind::Av1 { &["-bsf:v", "av1_metadata=td=remove"] } else { &[] };
        let packets = Packets::of_filtered_file(ffmpeg, &path, filters);
        Clip { path, ffmpeg, packets }
    }

    /// An ffmpeg that publishes it to `url` at the pace of its clock, as it is.
    pub fn publish(&self, url: &str) -> Process {
        self.publish_with(&["-re"], url)
    }

    /// An ffmpeg that publishes it to `url` as it is, with other arguments before the input.
    pub fn publish_with(&self, arguments: &[&str], url: &str) -> Process {
        let mut command = Command::new(program(self.ffmpeg));
        command.args(["-nostdin", "-v", "warning"]).args(arguments).arg("-i").arg(&self.path);
        command.args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", url]);
        Process::start("ffmpeg-publisher", &mut command)
    }
}

impl Kind {
    fn ffmpeg(self) -> &'static str {
        match self {
            Kind::H264 | Kind::H264Heavy | Kind::Mp3 | Kind::Sound => "ffmpeg",
            Kind::Hevc | Kind::Vvc | Kind::Av1 | Kind::Vp9 => "ffmpeg9",
        }
    }
    /// ffmpeg's arguments from the inputs to the coders; no word of them holds a space.
    fn recipe(self, seconds: u32) -> String {
        const X264: &str = "-c:v libx264 -preset veryfast -bf 2 -sc_threshold 0";
        let noise = if self == Kind::H264Heavy { ",noise=alls=60:allf=t+u" } else { "" };
        let rate = if matches!(self, Kind::Av1 | Kind::Vp9) { 48_000 } else { 44_100 };
        let coders = match self {
            Kind::H264 => format!("{X264} -crf 28 -c:a aac"),
            Kind::H264Heavy => format!("{X264} -b:v 7M -c:a aac"),
            Kind::Mp3 => format!("{X264} -crf 28 -c:a libmp3lame"),
            Kind::Sound => "-vn -c:a aac".to_owned(),
            Kind::Hevc => {
                "-c:v libx265 -preset ultrafast -x265-params bframes=2:log-level=error -c:a aac".to_owned()
            }
            Kind::Vvc => "-c:v libvvenc -preset faster -qp 37 -c:a aac".to_owned(),
            Kind::Av1 => "-c:v libsvtav1 -preset 10 -svtav1-params lookahead=0 -c:a libopus".to_owned(),
            Kind::Vp9 => "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus".to_owned(),
        };
        // A tone that rises, so that no two packets of sound are alike.
        format!(
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration={seconds}{noise} \
             -f lavfi -i aevalsrc=0.3*sin(2*PI*(200+20*t)*t):s={rate}:d={seconds} \
             -pix_fmt yuv420p -g {GROUP} -keyint_min {GROUP} {coders}"
        )
    }
}
