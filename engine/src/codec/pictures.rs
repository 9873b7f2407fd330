//! What whoever puts access units together knows of a track of pictures: its parameter sets as they come by, the
//! configuration that they make, and where a decoder can begin.

use std::sync::Arc;

use super::{
    Parameters, h264, is_key,
    nal::LengthSize,
    sets::Sets,
    syntax::{Kind, Syntax},
};

/// The pictures of a track.
#[derive(Debug)]
pub(crate) struct Pictures {
    syntax: Syntax,
    sets: Sets,
    parameters: Option<Arc<Parameters>>,
}

/// What becomes of a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes along with the access unit.
    Kept {
        /// It is of a picture, and not only about it.
        slice: bool,
    },
    /// It only fills the stream up.
    Filler,
    /// It was taken note of, or says nothing.
    LeftOut,
}

impl Pictures {
    pub(crate) fn new(syntax: Syntax) -> Self {
        Pictures { syntax, sets: Sets::new(syntax), parameters: None }
    }

    /// Looks at a NAL unit of the next access unit. Parameter sets stand apart from frames here.
    pub(crate) fn unit(&mut self, unit: &[u8]) -> Fate {
        match self.syntax.kind(unit) {
            Kind::Set(kind) => {
                self.sets.take(kind, unit);
                Fate::LeftOut
            }
            Kind::Delimiter => Fate::LeftOut,
            Kind::Other if self.syntax.is_filler(unit) => Fate::Filler,
            kind => Fate::Kept { slice: matches!(kind, Kind::Slice { .. }) },
        }
    }

    /// The parameters that hold from here on, if they are others than before.
    pub(crate) fn changed_parameters(&mut self) -> Option<Arc<Parameters>> {
        let parameters = self.sets.changed_parameters()?;
        if self.parameters.as_deref() == Some(&parameters) {
            return None;
        }
        let parameters = Arc::new(parameters);
        self.parameters = Some(Arc::clone(&parameters));
        Some(parameters)
    }

    /// The parameters that hold.
    pub(crate) fn parameters(&self) -> Option<&Arc<Parameters>> {
        self.parameters.as_ref()
    }

    /// True for an access unit, with lengths of four bytes, at which a decoder can begin.
    pub(crate) fn is_key(&self, data: &[u8]) -> bool {
        let Some(parameters) = &self.parameters else { return false };
        // Broadcasters have groups that are never closed, and some encoders refresh pictures in stripes: they mark where a
        // decoder may begin, and send no IDR picture after the first.
        is_key(parameters.codec, LengthSize::Four, data)
            || self.syntax == Syntax::H264 && h264::recovery_point(data, LengthSize::Four).is_some()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.sets.held_bytes()
    }
}
