//! The machine's own Chromium, which scripts of `tests/interop` drive, and pictures with a clock that they can read.

use std::{env, path::PathBuf, process::Command};

use super::{process::Process, program, repository, target};

/// What the scripts end with when nothing is wrong but that a machine with much to do may be the reason: a late picture, one that stood.
pub const LATE: i32 = 3;
/// How often it is looked again then: others may have the machine for a while, and a server that is late is so each time.
pub const LOOKS: usize = 3;

/// A script of `tests/interop` that drives the browser, still without arguments.
///
/// # Panics
/// When what drives it is not installed.
pub fn script(name: &str) -> Command {
    let interop = repository().join("tests/interop");
    assert!(
        interop.join("node_modules").is_dir(),
        "the browser's driver is not installed; tests/setup.sh installs it"
    );
    let mut command = Command::new(program("node"));
    command.arg(interop.join(name)).env("CHROMIUM", chromium());
    command
}

/// `SHARDCAST_WATCH_SECONDS`: how long each player is watched, for a longer look than CI takes.
///
/// # Panics
/// When it says something else.
pub fn watch_seconds() -> Option<u64> {
    let text = env::var("SHARDCAST_WATCH_SECONDS").ok()?;
    Some(text.parse().expect("SHARDCAST_WATCH_SECONDS is a whole number of seconds"))
}

/// An ffmpeg that makes pictures as they are due and publishes them: a test picture with a clock at its upper edge that a
/// script can read, so that what a viewer sees can be dated without asking the server. A key frame each two seconds, so many
/// B-frames between references, and whatever else x264 is told.
pub fn publish_clock(url: &str, between: u32, more: &str) -> Process {
    // Two rows of sixteen pixels, scaled up: the bits of the wall clock in units of 8 ms, and the same turned over.
    let clock = "color=black:size=16x2:rate=25,settb=1/1000000,setpts=RTCTIME,\
                 geq=lum='255*abs(mod(floor(T*125/pow(2,X)),2)-Y)':cb=128:cr=128,\
                 settb=1/25,setpts=N,scale=320:40:flags=neighbor";
    let picture =
        format!("{clock}[clock];testsrc2=size=320x180:rate=25[test];[test][clock]overlay=shortest=1");
    let mut command = Command::new(program("ffmpeg"));
    command.args(["-nostdin", "-v", "warning"]);
    command.args(["-re", "-f", "lavfi", "-i", &picture]);
    command.args(["-re", "-f", "lavfi", "-i", "aevalsrc=0.3*sin(2*PI*(200+20*mod(t\\,60))*t):s=44100"]);
    command.args(["-map", "0:v", "-map", "1:a", "-pix_fmt", "yuv420p"]);
    command.args(
        "-c:v libx264 -preset veryfast -crf 26 -threads 1 -g 50 -keyint_min 50 -sc_threshold 0".split(' '),
    );
    // Looking ahead would take longer than all the rest of the way.
    let x264 = format!("rc-lookahead=0:sync-lookahead=0:mbtree=0:bframes={between}:{more}");
    command.args(["-x264-params", x264.trim_end_matches(':'), "-c:a", "aac"]);
    command.args(["-f", "flv", "-flvflags", "no_duration_filesize", url]);
    Process::start("ffmpeg-clock", &mut command)
}

fn chromium() -> PathBuf {
    let own = target().join("interop").join("chromium");
    if own.exists() {
        own
    } else {
        env::var_os("CHROMIUM").map_or_else(|| program("chromium"), PathBuf::from)
    }
}
