//! Players: peers that speak real HTTP to the engine's own session, and fetch a stream by segments as HLS and DASH players
//! do. They ask what the answers tell them to ask, and now and then what makes no sense.
//!
//! `request.rs` is what they say, `answer.rs` reads what they hear, `player.rs` decides what they want next, `nonsense.rs`
//! what nobody should want. What the answers must be is the judge's business.

mod answer;
mod nonsense;
mod player;
mod request;

pub use answer::{Answer, Answers};
pub use player::{Habits, Manner, Player, renditions, templates, with_query};
pub use request::{Method, Request, file_of};

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked.
    pub request: Request,
    /// What came.
    pub answer: Answer,
}
