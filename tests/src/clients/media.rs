//! Clips to publish, made by ffmpeg when first asked for and kept below the target directory.

use std::{fs, path::PathBuf, process::Command, sync::Mutex, time::Duration};

use super::{packets::Packets, process::Process, process::run, program, target};

/// What a clip holds. All are 25 pictures a second with a key frame each [`GROUP`], every picture different, where their own
/// line says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// H.264 with two B-frames between references, and AAC.
    H264,
    /// The same with so much noise that a second takes close to a megabyte.
    H264Heavy,
    /// The same, twice as wide and high.
    H264Wide,
    /// The same again, with the sound at 48 kHz.
    H264Other,
    /// 3840x2160 at 40 Mbit/s: the same two seconds again and again, for more would take long to encode.
    H264Large,
    /// With pictures left out at no pace, now and then ten that follow each other.
    H264Irregular,
    /// Groups that are open: pictures behind a key frame that are shown before it and build upon the group before.
    H264Open,
    /// A key frame each twelve seconds.
    H264Rare,
    /// Pictures alone.
    H264Mute,
    /// The sound begins three seconds after the pictures; it is announced at the beginning, as ffmpeg does.
    H264Late,
    /// Black pictures that are white for three of each 25, and a tone that sounds as long and at the same time.
    H264Flash,
    /// H.264 of the baseline profile, which has no B-frames, and Opus of two channels: what all that speak WebRTC have.
    H264Plain,
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
/// How many of the large pictures are encoded, seconds.
const LARGE_SECONDS: u32 = 2;

/// A clip of that many seconds, as an FLV file.
pub struct Clip {
    /// What it holds.
    pub kind: Kind,
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
        let repeated =
            (kind == Kind::H264Large && seconds > LARGE_SECONDS).then(|| Self::of(kind, LARGE_SECONDS));
        // One at a time: encoders take every core, and tests of one program often want the same clip.
        static MAKING: Mutex<()> = Mutex::new(());
        let guard = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !path.exists() {
            // Another test program may make it at the same time; a rename leaves one of two equal files.
            let draft = path.with_extension(format!("{}.flv", std::process::id()));
            let mut command = Command::new(program(ffmpeg));
            command.args(["-nostdin", "-v", "error", "-y"]);
            match repeated {
                Some(short) => {
                    let more = seconds.div_ceil(LARGE_SECONDS) - 1;
                    command
                        .args(["-stream_loop", &more.to_string(), "-i"])
                        .arg(short.path)
                        .args(["-c", "copy"])
                }
                None => command.args(kind.recipe(seconds).split_whitespace()),
            };
            command.args(["-f", "flv", "-flvflags", "no_duration_filesize"]).arg(&draft);
            run("ffmpeg-clip", &mut command, Duration::from_secs(300));
            fs::rename(&draft, &path).expect("a rename inside a folder");
        }
        drop(guard);
        // ffmpeg leaves temporal delimiters in FLV. MP4 forbids them (AV1 in ISOBMFF 2.4), a frame here is an MP4 sample,
        // and so what is expected of a server is the clip without them.
        let filters: &[&str] = if kind == Kind::Av1 { &["-bsf:v", "av1_metadata=td=remove"] } else { &[] };
        let packets = Packets::of_filtered_file(ffmpeg, &path, filters);
        Clip { kind, path, ffmpeg, packets }
    }

    /// Its packets as who reads MPEG-TS names them, without what the two forms of a packet differ in; see
    /// [`Kind::of_transport`].
    pub fn transport(&self) -> Packets {
        let filters: &[&str] = match self.kind.pictures() {
            None => &[],
            Some(Pictures::H264) => &["-bsf:v", "h264_mp4toannexb,filter_units=remove_types=7-9"],
            Some(Pictures::Hevc) => &["-bsf:v", "hevc_mp4toannexb,filter_units=remove_types=32-35|39"],
            Some(Pictures::Other) => panic!("MPEG-TS has no place for {:?}", self.kind),
        };
        Packets::of_filtered_file(self.ffmpeg, &self.path, filters)
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

/// What the pictures of a clip are, as far as MPEG-TS writes them in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pictures {
    H264,
    Hevc,
    Other,
}

impl Kind {
    fn ffmpeg(self) -> &'static str {
        match self.pictures() {
            // Opus in FLV is new.
            _ if self == Kind::H264Plain => "ffmpeg9",
            None | Some(Pictures::H264) => "ffmpeg",
            Some(Pictures::Hevc | Pictures::Other) => "ffmpeg9",
        }
    }
    fn pictures(self) -> Option<Pictures> {
        match self {
            Kind::Sound => None,
            Kind::Hevc => Some(Pictures::Hevc),
            Kind::Vvc | Kind::Av1 | Kind::Vp9 => Some(Pictures::Other),
            _ => Some(Pictures::H264),
        }
    }
    /// ffmpeg's filters that take from what MPEG-TS carries what FLV does not: delimiters, parameter sets before key frames,
    /// the headers of AAC.
    pub fn of_transport(self) -> Vec<&'static str> {
        let mut filters = match self.pictures() {
            Some(Pictures::H264) => vec!["-bsf:v", "filter_units=remove_types=7-9"],
            // And what x265 says of itself in its configuration, which is not written.
            Some(Pictures::Hevc) => vec!["-bsf:v", "filter_units=remove_types=32-35|39"],
            Some(Pictures::Other) | None => Vec::new(),
        };
        if !matches!(self, Kind::H264Mute | Kind::H264Plain | Kind::Mp3) {
            filters.extend(["-bsf:a", "aac_adtstoasc"]);
        }
        filters
    }
    /// ffmpeg's arguments from the inputs to the coders; no word of them holds a space.
    fn recipe(self, seconds: u32) -> String {
        const X264: &str = "-c:v libx264 -preset veryfast -bf 2 -sc_threshold 0";
        let group = if self == Kind::H264Rare { 300 } else { GROUP };
        let coders = match self {
            Kind::H264
            | Kind::H264Wide
            | Kind::H264Other
            | Kind::H264Irregular
            | Kind::H264Rare
            | Kind::H264Late
            | Kind::H264Flash => {
                format!("{X264} -crf 28 -c:a aac")
            }
            Kind::H264Heavy => format!("{X264} -b:v 7M -c:a aac"),
            Kind::H264Large => {
                "-c:v libx264 -preset ultrafast -bf 2 -sc_threshold 0 -b:v 40M -minrate 40M -maxrate 40M \
                 -bufsize 8M -x264-params nal-hrd=cbr -c:a aac"
                    .to_owned()
            }
            Kind::H264Open => format!("{X264} -x264-params open-gop=1 -crf 28 -c:a aac"),
            Kind::H264Mute => format!("{X264} -crf 28 -an"),
            Kind::H264Plain => {
                "-c:v libx264 -preset veryfast -profile:v baseline -sc_threshold 0 -crf 28 -ac 2 -c:a libopus"
                    .to_owned()
            }
            Kind::Mp3 => format!("{X264} -crf 28 -c:a libmp3lame"),
            Kind::Sound => "-vn -c:a aac".to_owned(),
            Kind::Hevc => {
                "-c:v libx265 -preset ultrafast -x265-params bframes=2:log-level=error -c:a aac".to_owned()
            }
            Kind::Vvc => "-c:v libvvenc -preset faster -qp 37 -c:a aac".to_owned(),
            Kind::Av1 => "-c:v libsvtav1 -preset 10 -svtav1-params lookahead=0 -c:a libopus".to_owned(),
            Kind::Vp9 => "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus".to_owned(),
        };
        let (pictures, sound) = (self.source_of_pictures(seconds), self.source_of_sound(seconds));
        format!("-f lavfi -i {pictures} {sound} -pix_fmt yuv420p -g {group} -keyint_min {group} {coders}")
    }
    fn source_of_pictures(self, seconds: u32) -> String {
        let size = match self {
            Kind::H264Wide | Kind::H264Other => "640x360",
            Kind::H264Large => "3840x2160",
            _ => "320x180",
        };
        let more = match self {
            Kind::H264Heavy => ",noise=alls=60:allf=t+u",
            Kind::H264Large => ",noise=alls=12:allf=t",
            Kind::H264Irregular => ",select='mod(n,7)*mod(n,11)*not(between(mod(n,60),20,29))'",
            // Half a picture before the sound, so that no rounding makes it the next picture.
            Kind::H264Flash => {
                return format!(
                    "color=c=black:s={size}:r=25:d={seconds},\
                     drawbox=x=0:y=0:w=iw:h=ih:color=white:t=fill:enable='lt(mod(t+0.46,1),0.12)'"
                );
            }
            _ => "",
        };
        format!("testsrc2=size={size}:rate=25:duration={seconds}{more}")
    }
    fn source_of_sound(self, seconds: u32) -> String {
        let rate = match self {
            Kind::Av1 | Kind::Vp9 | Kind::H264Plain | Kind::H264Other | Kind::H264Flash => 48_000,
            _ => 44_100,
        };
        let (late, seconds) =
            if self == Kind::H264Late { ("-itsoffset 3", seconds - 3) } else { ("", seconds) };
        // A tone that rises, so that no two packets of sound are alike.
        let wave = match self {
            Kind::H264Flash => "'if(lt(mod(t+0.44,1),0.12),0.8*sin(2*PI*1000*t),0)'",
            _ => "0.3*sin(2*PI*(200+20*t)*t)",
        };
        format!("{late} -f lavfi -i aevalsrc=exprs={wave}:s={rate}:d={seconds}")
    }
}
