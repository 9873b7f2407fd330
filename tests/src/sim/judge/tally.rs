//! What a judge has compared.

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that were taken from publishers.
    pub taken: u64,
    /// Frames that reached viewers.
    pub received: u64,
    /// Viewers that entered a stream.
    pub entries: u64,
    /// Jumps that viewers made.
    pub jumps: u64,
    /// Publishers that resumed a stream.
    pub resumes: u64,
    /// Publishers that were refused because the name was held.
    pub refused: u64,
    /// Viewers that saw their stream end, and had all of it.
    pub ends: u64,
    /// Frames that were taken in time of those that came by datagrams and had to be.
    pub kept: u64,
    /// Frames that were taken of films that came by datagrams of RTP.
    pub taken_by_rtp: u64,
    /// Those of them that had to be taken in time.
    pub kept_by_rtp: u64,
    /// Frames that had to be taken in time of films that were sent unasked.
    pub kept_unasked: u64,
    /// Frames that reached viewers by RTP.
    pub received_by_rtp: u64,
}

impl Tally {
    /// Adds another world's.
    pub fn add(&mut self, other: &Tally) {
        self.taken += other.taken;
        self.received += other.received;
        self.entries += other.entries;
        self.jumps += other.jumps;
        self.resumes += other.resumes;
        self.refused += other.refused;
        self.ends += other.ends;
        self.kept += other.kept;
        self.taken_by_rtp += other.taken_by_rtp;
        self.kept_by_rtp += other.kept_by_rtp;
        self.kept_unasked += other.kept_unasked;
        self.received_by_rtp += other.received_by_rtp;
    }
}
