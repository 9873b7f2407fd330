//! How far each beep is from its flash, in what a decoder made of a clip of [`Kind::H264Flash`](super::media::Kind).

use std::{fs, path::Path};

/// A picture is white from here on: its mean luma, of 16 to 235.
const WHITE: f64 = 128.0;
/// It beeps from here on, in dB of full scale: the tone has -5, and what an encoder smears in front of it less than this.
const LOUD: f64 = -20.0;
/// How far a beep may be from its flash and still be taken for its own, microseconds.
const PAIR_MAX: i64 = 400_000;

/// ffmpeg's arguments behind an input: it decodes, and writes the brightness of each picture and the loudness of each
/// millisecond into `folder`.
pub fn arguments(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("paths of tests are ASCII");
    // 48 samples of 48 kHz.
    let filters = format!(
        "[0:v]signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file={folder}/pictures[v];\
         [0:a]asetnsamples=n=48:p=0,\
         astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=RMS_level,\
         ametadata=mode=print:key=lavfi.astats.Overall.RMS_level:file={folder}/sound[a]"
    );
    ["-filter_complex", &filters, "-map", "[v]", "-map", "[a]", "-f", "null", "-"].map(str::to_owned).into()
}

/// How much later than its flash each beep begins, microseconds, from what was written into `folder`.
///
/// # Panics
/// When a flash has no beep, or there is none.
pub fn offsets(folder: &Path) -> Vec<i64> {
    let flashes = beginnings(&folder.join("pictures"), WHITE);
    let mut beeps = beginnings(&folder.join("sound"), LOUD);
    let mut offsets = Vec::new();
    for flash in &flashes {
        let near = beeps.iter().position(|beep| (beep - flash).abs() <= PAIR_MAX);
        let near = near.unwrap_or_else(|| panic!("the flash at {flash} us has no beep among {beeps:?}"));
        offsets.push(beeps.remove(near) - flash);
    }
    assert!(beeps.is_empty(), "beeps at {beeps:?} us have no flash among {flashes:?}");
    assert!(!offsets.is_empty(), "nothing flashes");
    offsets
}

/// Where values rise to `threshold`, microseconds.
fn beginnings(path: &Path, threshold: f64) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut time, mut above, mut found) = (None, false, Vec::new());
    for line in text.lines() {
        if let Some((_, seconds)) = line.split_once("pts_time:") {
            time = seconds.trim().parse::<f64>().ok();
        } else if let Some((_, value)) = line.split_once('=') {
            let value: f64 = value.trim().parse().expect("a number, or -inf");
            if value >= threshold && !above {
                found.push((time.expect("the time stands above") * 1e6).round() as i64);
            }
            above = value >= threshold;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Folder;

    fn measured(pictures: &str, sound: &str) -> Vec<i64> {
        let folder = Folder::new("sync-unit");
        fs::write(folder.path().join("pictures"), pictures).unwrap();
        fs::write(folder.path().join("sound"), sound).unwrap();
        offsets(folder.path())
    }

    const PICTURES: &str = "frame:0 pts:0 pts_time:0\nlavfi.signalstats.YAVG=16\n\
        frame:1 pts:1 pts_time:0.04\nlavfi.signalstats.YAVG=235\nframe:2 pts:2 pts_time:0.08\nlavfi.signalstats.YAVG=235\n\
        frame:3 pts:3 pts_time:0.12\nlavfi.signalstats.YAVG=16\n";

    #[test]
    fn a_beep_is_as_far_from_its_flash_as_their_beginnings() {
        let sound = "frame:0 pts:0 pts_time:0.07\nlavfi.astats.Overall.RMS_level=-inf\n\
            frame:1 pts:1 pts_time:0.071\nlavfi.astats.Overall.RMS_level=-5.2\n\
            frame:2 pts:2 pts_time:0.072\nlavfi.astats.Overall.RMS_level=-5.1\n";
        assert_eq!(measured(PICTURES, sound), [31_000]);
    }

    #[test]
    #[should_panic(expected = "has no beep")]
    fn a_flash_without_its_beep_is_told() {
        measured(PICTURES, "frame:0 pts:0 pts_time:0\nlavfi.astats.Overall.RMS_level=-inf\n");
    }
}
