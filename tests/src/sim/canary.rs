//! Policies that are broken on purpose. Each must be found by the judge within a few seeds: a judge who finds nothing in
//! a broken world would find nothing in ours.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A lane loses a batch of frames and says nothing.
    LaneLosesFrames,
    /// A lane delivers a batch of frames behind the next one.
    LaneSwapsFrames,
    /// A connection's bytes arrive with one of them changed.
    ByteChanges,
    /// A driver tells that more was sent than was.
    SentTooMuch,
    /// A driver gives bytes of a refused publisher to the one who holds the name.
    RefusedLeaks,
    /// A driver forgets a piece of what came while a publisher moved.
    MoveLosesBytes,
    /// A driver does not bring a deadline any more.
    ClockStops,
    /// Datagrams of a stream arrive with a byte changed, and nobody has noticed on the way.
    DatagramChanges,
    /// Packets of media by RTP arrive so.
    PacketChanges,
    /// A disk acknowledges what it wrote in part.
    DiskLies,
    /// The engine makes a lagging viewer jump in the middle of a frame.
    Engine(shardcast_engine::canary::Canary),
}

impl Canary {
    /// All of them.
    pub fn all() -> Vec<Canary> {
        let mut all = vec![
            Canary::LaneLosesFrames,
            Canary::LaneSwapsFrames,
            Canary::ByteChanges,
            Canary::SentTooMuch,
            Canary::RefusedLeaks,
            Canary::MoveLosesBytes,
            Canary::ClockStops,
            Canary::DatagramChanges,
            Canary::PacketChanges,
            Canary::DiskLies,
        ];
        all.extend(shardcast_engine::canary::Canary::ALL.iter().copied().map(Canary::Engine));
        all
    }
}
