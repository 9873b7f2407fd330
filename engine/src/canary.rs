//! Policies broken on purpose, so that the simulated world can show that it would notice. Without the feature `canary`,
//! which only the tests switch on, nothing here can be set and every question is answered `false` at compile time; with
//! it nothing is broken either, until a test asks for it on its own thread.

/// A policy that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A viewer that lags jumps without finishing the frame it is in.
    JumpInMidFrame,
    /// A viewer that lags jumps and nobody counts it.
    JumpUncounted,
    /// A log that begins with the kept group has the last frame of it twice.
    SeamDoubles,
    /// A log that begins with the kept group lacks the last frame of it.
    SeamLoses,
    /// A group that outgrows its bound loses its newest frames instead of being let go.
    GroupLosesNewest,
    /// Whoever asks for a name that is held becomes its publisher beside the other.
    TwoPublishers,
    /// A viewer that jumps is not told what changed in the part it missed.
    JumpWithoutRefresh,
    /// A frame now and then is sent to viewers and not packaged.
    PackageLoses,
    /// A playlist is cut down to its last segment, however short that is.
    ListTooShort,
    /// A packet of SRT is handed on twice after another one came twice.
    PacketTwice,
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 10] = [
        Canary::JumpInMidFrame,
        Canary::JumpUncounted,
        Canary::SeamDoubles,
        Canary::SeamLoses,
        Canary::GroupLosesNewest,
        Canary::TwoPublishers,
        Canary::JumpWithoutRefresh,
        Canary::PackageLoses,
        Canary::ListTooShort,
        Canary::PacketTwice,
    ];
}

#[cfg(feature = "canary")]
std::thread_local! {
    static BROKEN: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Breaks a policy for all machines that this thread drives, or mends it.
#[cfg(feature = "canary")]
pub fn set(broken: Option<Canary>) {
    BROKEN.set(broken);
}

/// True when this policy is broken.
#[cfg(feature = "canary")]
pub(crate) fn is_broken(canary: Canary) -> bool {
    BROKEN.get() == Some(canary)
}

/// True when this policy is broken: never, in a build without the feature.
#[cfg(not(feature = "canary"))]
pub(crate) const fn is_broken(_: Canary) -> bool {
    false
}
