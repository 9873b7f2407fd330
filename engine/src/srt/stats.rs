//! What a connection counts.

/// What one direction has seen, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of data, with those that came again.
    pub packets: u64,
    pub bytes: u64,
    /// Packets that were seen to be missing.
    pub missing: u64,
    /// Words about what is missing.
    pub told: u64,
    /// Missing packets that came all the same.
    pub recovered: u64,
    /// Packets that never came, or too late.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    pub duplicates: u64,
    /// Packets too far ahead to be kept.
    pub beyond: u64,
    /// Packets that no key of ours opens.
    pub unreadable: u64,
}
