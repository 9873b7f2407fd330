//! What is sent by packets that nobody sends again, each track's by themselves: what is lost is lost, and what it damages is left out
//! up to where a decoder can begin anew.

use std::collections::BTreeMap;

use shardcast_engine::{media::Frame, time::Now};

use super::{Arrived, Excuse, Judge, LATE_MAX, STEP_BACK_MAX_MILLIS, Stamp, Truth, Verdict, verdict};

/// Films that come by such packets.
#[derive(Debug, Default)]
pub struct Films(BTreeMap<u32, Film>);

#[derive(Debug, Default)]
struct Film {
    /// Of each of its frames, whether it is a picture.
    sent: Vec<bool>,
    /// What was taken last, of pictures and of sound.
    last: [Option<u32>; 2],
}

impl Films {
    /// A frame sets out.
    pub fn sent(&mut self, stamp: Stamp, picture: bool) {
        let film = self.0.entry(stamp.publisher).or_default();
        film.sent.resize(stamp.sequence as usize, false);
        film.sent.push(picture);
    }

    /// A frame was taken. True when it is of such a film: then it follows what was taken of its track, and where pictures are
    /// missing before it, it needs none of them.
    pub(super) fn follow(&mut self, stamp: Stamp, frame: &Frame) -> Result<bool, String> {
        let Some(film) = self.0.get_mut(&stamp.publisher) else { return Ok(false) };
        let picture = frame.is_video();
        let last = film.last[usize::from(!picture)].replace(stamp.sequence);
        verdict(last.is_none_or(|last| last < stamp.sequence), || {
            format!("{stamp:?} was taken after number {last:?} of its track")
        })?;
        let sent = film.sent.get(..=stamp.sequence as usize);
        verdict(sent.is_some_and(|sent| sent.last() == Some(&picture)), || {
            format!("{stamp:?} was taken and never sent")
        })?;
        let from = last.map_or(0, |last| last as usize + 1);
        let mut between = film.sent[from..stamp.sequence as usize].iter();
        let gap = picture && (last.is_none() || between.any(|picture| *picture));
        verdict(!gap || frame.is_key(), || {
            format!("{stamp:?} was taken and not the picture before it, which it needs")
        })?;
        Ok(true)
    }
}

impl Truth {
    /// The last frame of a life, taken by `until`, that a viewer hears at all. Sound of other parameters than were described nobody
    /// can follow by RTP.
    pub(super) fn last_for(&self, excuse: &Excuse, life: u32, until: Now) -> Option<usize> {
        let [pictures, sound] = excuse
            .tracks
            .map_or([true; 2], |[pictures, sound]| [pictures, sound && !self.sound_changed.contains(&life)]);
        self.frames.iter().rposition(|taken| {
            let hears = if taken.picture { pictures } else { sound };
            taken.life == life && taken.at <= until && hears
        })
    }
}

impl Judge {
    /// A picture or packet of sound reached a viewer by packets of its track.
    pub(super) fn received_of_track(&mut self, socket: usize, arrived: Arrived<'_>) -> Verdict {
        let Arrived { stream, index, dts_millis, excuse, .. } = arrived;
        let Some(watching) = self.sockets.get_mut(&socket).and_then(|watched| watched.watching.as_mut())
        else {
            return Ok(());
        };
        let truth = &self.streams[stream];
        let taken = &truth.frames[index];
        self.tally.received_by_rtp += 1;
        self.tally.entries += u64::from(watching.last.is_none());

        let track = &mut watching.last_of[usize::from(!taken.picture)];
        // Where sound goes on by other parameters, its numbers and times begin anew, and nobody has described them.
        let described = taken.picture || !truth.sound_changed.contains(&taken.life);
        match *track {
            None => verdict(taken.entrance || !taken.picture, || {
                format!("the first picture of a viewer is {arrived}, which is no entrance")
            })?,
            Some((last, _)) if !described => {
                verdict(truth.frames[last].life == taken.life, || format!("{arrived} is of another life"))?;
            }
            Some((last, latest_millis)) => {
                verdict(index > last, || format!("{arrived} came after frame {last}"))?;
                let former = &truth.frames[last];
                verdict(taken.life == former.life, || format!("{arrived} is of another life"))?;
                verdict(dts_millis >= latest_millis.saturating_sub(STEP_BACK_MAX_MILLIS), || {
                    format!("the time of {arrived} is {dts_millis} after {latest_millis}")
                })?;
                let is_missing = |between: &&super::Taken| between.picture == taken.picture;
                if let Some(missed) = truth.frames[last + 1..index].iter().find(is_missing) {
                    self.tally.jumps += 1;
                    verdict(taken.entrance || !taken.picture, || {
                        format!("{arrived} came after frame {last}, and not the picture before it")
                    })?;
                    let lane = excuse.lane_full.is_some_and(|full| full.after(LATE_MAX) >= missed.at);
                    verdict(lane || !excuse.prompt, || {
                        format!("a viewer that keeps up has {arrived} after frame {last}")
                    })?;
                }
            }
        }
        *track = Some((index, track.map_or(dts_millis, |(_, latest)| latest.max(dts_millis))));
        arrived.in_time(taken, watching.since)?;
        watching.last = watching.last.max(Some(index));
        Ok(())
    }
}
