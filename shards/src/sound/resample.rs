//! From the source's rate to 48 kHz, in whole blocks of about 20 ms, to the sample: what goes in at one time comes out at it.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::{SAMPLE_RATE, SoundError};

/// Blocks per second that are transformed at once. At 20 ms the low-pass leaves all below 20 kHz of 44.1 kHz alone.
const BLOCKS_PER_SECOND: u32 = 50;

/// Samples of one rate and channel count made into samples of 48 kHz.
pub(super) struct Resampler {
    sample_rate: u32,
    channels: usize,
    /// `None` where the rate is right already.
    changer: Option<Changer>,
}

struct Changer {
    fft: Fft<f32>,
    /// What fills no block yet; less than one.
    waiting: Vec<f32>,
    made: Vec<f32>,
    /// Samples per channel that stand in `waiting` or were given in this run.
    taken: u64,
    /// Samples per channel that came out in this run.
    given: u64,
    /// Samples per channel at the start of a run that stand before its first.
    early: usize,
}

impl Resampler {
    pub(super) fn new(sample_rate: u32, channels: usize) -> Result<Self, SoundError> {
        let changer =
            if sample_rate == SAMPLE_RATE { None } else { Some(Changer::new(sample_rate, channels)?) };
        Ok(Resampler { sample_rate, channels, changer })
    }

    /// Forgets what it holds: a new run begins.
    pub(super) fn reset(&mut self) {
        if let Some(changer) = &mut self.changer {
            changer.reset();
        }
    }

    /// Takes interleaved samples and appends those of 48 kHz that are ready.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), SoundError> {
        match &mut self.changer {
            Some(changer) => changer.push(samples, self.channels, out),
            None => {
                out.extend_from_slice(samples);
                Ok(())
            }
        }
    }

    /// Appends what is left of the run, so that as much has come out as went in, and forgets the run.
    pub(super) fn end(&mut self, out: &mut Vec<f32>) -> Result<(), SoundError> {
        match &mut self.changer {
            Some(changer) => changer.end(self.sample_rate, self.channels, out),
            None => Ok(()),
        }
    }
}

impl Changer {
    fn new(sample_rate: u32, channels: usize) -> Result<Self, SoundError> {
        let block = (sample_rate / BLOCKS_PER_SECOND) as usize;
        let fft = Fft::new_custom(
            sample_rate as usize,
            SAMPLE_RATE as usize,
            block,
            1,
            channels,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        );
        let fft = fft.map_err(|_| SoundError::Library("a resampler of this rate"))?;
        let early = fft.output_delay();
        let made = vec![0.0; fft.output_frames_next() * channels];
        Ok(Changer { fft, waiting: Vec::new(), made, taken: 0, given: 0, early })
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.waiting.clear();
        (self.taken, self.given) = (0, 0);
        self.early = self.fft.output_delay();
    }

    fn push(&mut self, mut samples: &[f32], channels: usize, out: &mut Vec<f32>) -> Result<(), SoundError> {
        self.taken += (samples.len() / channels) as u64;
        let block = self.fft.input_frames_next() * channels;
        while self.waiting.len() + samples.len() >= block {
            let (now, later) = samples.split_at(block - self.waiting.len());
            self.waiting.extend_from_slice(now);
            samples = later;
            self.block(channels, out)?;
        }
        self.waiting.extend_from_slice(samples);
        Ok(())
    }

    /// Resamples the block that waits.
    fn block(&mut self, channels: usize, out: &mut Vec<f32>) -> Result<(), SoundError> {
        let made = self.made.len() / channels;
        let input = InterleavedSlice::new(&self.waiting, channels, self.waiting.len() / channels);
        let output = InterleavedSlice::new_mut(&mut self.made, channels, made);
        let (Ok(input), Ok(mut output)) = (input, output) else {
            return Err(SoundError::Library("a block of its size for the resampler"));
        };
        let done = self.fft.process_into_buffer(&input, &mut output, None);
        done.map_err(|_| SoundError::Library("a block for the resampler"))?;
        self.waiting.clear();

        let early = self.early.min(made);
        self.early -= early;
        self.given += (made - early) as u64;
        out.extend_from_slice(self.made.get(early * channels..).unwrap_or_default());
        Ok(())
    }

    fn end(&mut self, sample_rate: u32, channels: usize, out: &mut Vec<f32>) -> Result<(), SoundError> {
        let owed = (self.taken * u64::from(SAMPLE_RATE)).div_ceil(u64::from(sample_rate));
        let block = self.fft.input_frames_next() * channels;
        while self.given < owed {
            self.waiting.resize(block, 0.0);
            self.block(channels, out)?;
        }
        let surplus = (self.given - owed) as usize * channels;
        out.truncate(out.len() - surplus.min(out.len()));
        self.reset();
        Ok(())
    }
}
