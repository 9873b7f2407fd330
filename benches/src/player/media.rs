//! Pieces taken apart: fragmented MP4 or MPEG-TS, whichever it turns out to be.

use shardcast_engine::{media::Frame, time::Now};

use super::{fmp4, ts};

/// Takes the pieces of one rendition apart, one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    form: Form,
}

#[derive(Debug, Default)]
enum Form {
    /// Nothing has come yet.
    #[default]
    Unknown,
    Fmp4(Box<fmp4::Reader>),
    Ts(Box<ts::Reader>),
}

/// How long a piece is, by what is in it. In seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// When it begins: in decoding order, by the pictures if there are any.
    pub begins: f64,
    /// How long it lasts; `None` where only the next piece tells.
    pub lasts: Option<f64>,
    /// One tick of its clock.
    pub tick: f64,
}

impl Reader {
    /// What stands before the pieces that follow.
    ///
    /// # Errors
    /// It is no initialisation section.
    pub fn init(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut reader = Box::<fmp4::Reader>::default();
        reader.init(bytes)?;
        self.form = Form::Fmp4(reader);
        Ok(())
    }

    /// Bytes of a piece. Gives each frame that is whole.
    ///
    /// # Errors
    /// They are none of a piece.
    pub fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&Frame)) -> Result<(), String> {
        let Some(first) = bytes.first() else { return Ok(()) };
        if matches!(self.form, Form::Unknown) {
            self.form = match *first {
                ts::SYNC_BYTE => Form::Ts(Box::default()),
                _ => Form::Fmp4(Box::default()),
            };
        }
        match &mut self.form {
            Form::Fmp4(reader) => reader.push(bytes, emit),
            // When a packet came does not matter here: the piece is there whole.
            Form::Ts(reader) => reader.push(bytes, Now(0), &mut |frame, _| emit(frame)),
            Form::Unknown => Ok(()),
        }
    }

    /// The piece is whole. Gives the frames that only now are, and how long it is; `None` when there was nothing in it.
    ///
    /// # Errors
    /// It ends in the middle of something.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&Frame)) -> Result<Option<Found>, String> {
        match &mut self.form {
            Form::Fmp4(reader) => reader.finish(),
            Form::Ts(reader) => reader.finish(&mut |frame, _| emit(frame)),
            Form::Unknown => Ok(None),
        }
    }
}
