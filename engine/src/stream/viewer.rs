//! A viewer: a cursor into a wire log. There is no queue per viewer; who is too slow jumps, who stands still is closed.

use std::rc::Rc;

use bytes::Bytes;

use super::log::{Block, Log};
use crate::{
    canary::{self, Canary},
    limits::StreamLimits,
    session::Start,
    time::Now,
};

/// A cursor into a [`Log`].
#[derive(Debug)]
pub struct Viewer {
    place: At,
    /// The opening it was last told of (see [`Block::opening`]).
    opening: u64,
    /// When it last had everything there was.
    caught_up: Now,
    paused: bool,
    /// It was held and goes on: at a newer entrance if there is one, else where it stands.
    resumed: bool,
    jumps: u32,
    /// It has had something of the stream.
    begun: bool,
}

#[derive(Debug)]
enum At {
    /// Waiting for an entrance. `joined` once it has seen a header: then a refresh is enough.
    Outside { joined: bool },
    /// It has been told that it begins with this block.
    Before { block: Rc<Block> },
    /// Inside a block that it holds on to, whatever the log lets go.
    Inside { block: Rc<Block>, offset: usize },
    /// It has had this block whole. Holding on to it tells the log that what follows may still be wanted.
    Behind { block: Rc<Block> },
}

/// What a viewer is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Whole or partial frames of the log. Tell [`Viewer::advance`] how many of them went.
    Stream(Bytes),
    /// Header or refresh bytes that stand before the next block. They are the caller's to send whole.
    Ahead(Bytes),
    /// As `Ahead`, after leaving out a part of the stream.
    Jumped(Bytes),
    /// Nothing is there yet.
    Nothing,
}

impl Viewer {
    /// A viewer that waits for the log's entrance.
    pub fn new(now: Now) -> Self {
        Viewer {
            place: At::Outside { joined: false },
            opening: 0,
            caught_up: now,
            paused: false,
            resumed: false,
            jumps: 0,
            begun: false,
        }
    }

    /// Chooses where it begins now, so that it can be told: at the newest entrance of `log`, if the form has numbers to tell. Else that is
    /// chosen when its first bytes are due.
    pub fn choose(&mut self, log: &Log) {
        if let (At::Outside { joined: false }, Some(block)) = (&self.place, log.entrance())
            && !block.starts().is_empty()
        {
            self.place = At::Before { block: block.clone() };
        }
    }

    /// The numbers of the first packets that it will be sent, if that has been [chosen](Self::choose).
    pub fn starts(&self) -> &[Start] {
        match &self.place {
            At::Before { block } => block.starts(),
            At::Outside { .. } | At::Inside { .. } | At::Behind { .. } => &[],
        }
    }

    /// True when it stands between two frames, where other bytes may be sent.
    pub fn at_boundary(&self) -> bool {
        match &self.place {
            At::Inside { block, offset } => block.is_boundary(*offset),
            At::Outside { .. } | At::Before { .. } | At::Behind { .. } => true,
        }
    }

    /// Holds the stream at the end of the frame it is in, or goes on: from the newest entrance if one came since, else where
    /// it was held, for nobody wants to see a group twice.
    pub fn pause(&mut self, paused: bool, now: Now) {
        if self.paused && !paused {
            self.caught_up = now;
            self.resumed = true;
        }
        self.paused = paused;
    }

    /// True once it has had something of the stream. Before, somebody waits for a first picture.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// How often it jumped because it was too slow.
    pub fn jumps(&self) -> u64 {
        u64::from(self.jumps)
    }

    /// The next bytes for this viewer out of `log`, under the policy for slow viewers: one that lags finishes the frame
    /// it is in and goes on at the newest entrance.
    pub fn next(&mut self, log: &Log, limits: &StreamLimits, now: Now) -> Next {
        self.next_of(log, limits, now, usize::MAX)
    }

    /// The same, of the stream `most` bytes at once; more where a single frame has more.
    pub fn next_of(&mut self, log: &Log, limits: &StreamLimits, now: Now, most: usize) -> Next {
        loop {
            match &self.place {
                At::Inside { block, offset } => {
                    let (block, offset) = (block.clone(), *offset);
                    if offset == block.bytes.len() {
                        self.opening = block.opening;
                        self.place = At::Behind { block };
                        continue;
                    }
                    let boundary = block.is_boundary(offset) || canary::is_broken(Canary::JumpInMidFrame);
                    if self.paused && boundary {
                        return Next::Nothing;
                    }
                    let jump = self.should_jump(&block, log, limits, now);
                    if jump && boundary {
                        return self.jump(log, now);
                    }
                    if !jump {
                        self.resumed = false;
                    }
                    let most = if jump || self.paused { 0 } else { most };
                    let end =
                        if most < block.bytes.len() { block.end_of(offset, most) } else { block.bytes.len() };
                    return Next::Stream(block.bytes.slice(offset..end));
                }
                At::Behind { .. } | At::Before { .. } | At::Outside { .. } if self.paused => {
                    return Next::Nothing;
                }
                At::Behind { block } => {
                    let next = block.number + 1;
                    if next >= log.shown() {
                        self.caught_up = now;
                        self.resumed = false;
                        return Next::Nothing;
                    }
                    match log.block(next) {
                        Some(block) if !self.should_jump(block, log, limits, now) => {
                            self.place = At::Inside { block: block.clone(), offset: 0 };
                        }
                        _ => return self.jump(log, now),
                    }
                }
                At::Before { block } => {
                    // It was held, or waited for others, until there was a newer one.
                    let late = self.should_jump(block, log, limits, now);
                    let block = log.entrance().filter(|_| late).unwrap_or(block).clone();
                    return self.join(block, now);
                }
                At::Outside { joined: false } => {
                    let Some(block) = log.entrance() else { return Next::Nothing };
                    return self.join(block.clone(), now);
                }
                At::Outside { joined: true } => {
                    if log.entrance().is_none() {
                        return Next::Nothing;
                    }
                    return self.jump(log, now);
                }
            }
        }
    }

    /// `sent` bytes of what [`next`](Self::next) gave as `Stream` have gone.
    pub fn advance(&mut self, sent: usize) {
        match &mut self.place {
            At::Inside { block, offset } => {
                *offset += sent;
                self.begun = true;
                assert!(*offset <= block.bytes.len(), "more was sent than was given");
            }
            At::Outside { .. } | At::Before { .. } | At::Behind { .. } => {
                assert!(sent == 0, "something was sent that was not given")
            }
        }
    }

    /// Too far behind for too long, or held until now, and there is a newer entrance to go to. A viewer that has just
    /// joined is behind by nature, so the block's age alone does not count.
    fn should_jump(&self, block: &Block, log: &Log, limits: &StreamLimits, now: Now) -> bool {
        let lags =
            now.since(self.caught_up) > limits.viewer_lag && now.since(block.sealed) > limits.viewer_lag;
        (lags || self.resumed) && log.entrance().is_some_and(|entrance| entrance.number > block.number)
    }

    fn join(&mut self, block: Rc<Block>, now: Now) -> Next {
        let Some(header) = block.header() else { return Next::Nothing };
        self.opening = block.opening_at_entrance();
        self.place = At::Inside { block, offset: 0 };
        self.caught_up = now;
        self.resumed = false;
        Next::Ahead(header)
    }

    fn jump(&mut self, log: &Log, now: Now) -> Next {
        let Some(block) = log.entrance() else {
            self.place = At::Outside { joined: true };
            return Next::Nothing;
        };
        // Whoever was held has not lagged.
        let lagged = !std::mem::take(&mut self.resumed) && !canary::is_broken(Canary::JumpUncounted);
        self.jumps = self.jumps.saturating_add(u32::from(lagged));
        self.caught_up = now;
        let mut refresh = block.refresh(self.opening).unwrap_or_default();
        if canary::is_broken(Canary::JumpWithoutRefresh) {
            refresh.clear();
        }
        self.opening = block.opening_at_entrance();
        self.place = At::Inside { block: block.clone(), offset: 0 };
        Next::Jumped(refresh)
    }
}
