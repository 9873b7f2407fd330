//! The repetition of what one viewer asked for: things of the same sizes at the same times, by as many connections, again and
//! again. It is how a floor that knows nothing of playlists is given the work of a server that does.
//!
//! A request goes out at its time, but not before the answer to the one before it on its connection is whole: so a piece
//! follows its playlist at once, as it did. What a server held back is asked for when it was answered.

use std::rc::Rc;

use shardcast_engine::time::Now;

use super::{Answer, Ask, Body, Request, What};
use crate::{
    outcome::{Asked, Trace},
    url::Url,
};

/// What is repeated, ready to be asked for. All viewers share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// After so many nanoseconds it begins anew.
    period: u64,
    /// By connection, in the order of their times.
    lines: Vec<Vec<Line>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    at: u64,
    url: Rc<Url>,
    what: What,
}

/// A viewer that repeats.
#[derive(Debug)]
pub struct Player {
    script: Rc<Script>,
    /// When the script began for the first time.
    origin: Now,
    cursors: Vec<Cursor>,
}

#[derive(Debug)]
struct Cursor {
    /// Times that the script is over.
    round: u64,
    next: usize,
    waits: bool,
}

const NANOS: f64 = 1e9;

impl Script {
    /// Of what was asked for, below the address of a server that has a file for each size.
    ///
    /// # Errors
    /// Nothing was asked for, or not in any time.
    pub fn new(trace: &Trace, door: &Url) -> Result<Script, String> {
        let period = (trace.seconds.clamp(0.0, 1e6) * NANOS) as u64;
        let mut lines: Vec<Vec<Line>> = Vec::new();
        for Asked { at, connection, playlist, bytes } in trace.asked.iter().filter(|asked| asked.bytes > 0) {
            let connection = usize::from(*connection);
            if lines.len() <= connection {
                lines.resize_with(connection + 1, Vec::new);
            }
            let what = if *playlist { What::Playlist } else { What::Media };
            let url = Rc::new(Url { path: format!("{}{bytes}", door.path), ..door.clone() });
            let at = ((at.clamp(0.0, 1e6) * NANOS) as u64).min(period.saturating_sub(1));
            lines[connection].push(Line { at, url, what });
        }
        lines.retain(|lines| !lines.is_empty());
        lines.iter_mut().for_each(|lines| lines.sort_by_key(|line| line.at));
        if lines.is_empty() || period == 0 {
            return Err("there is nothing to be repeated: nothing was asked for".to_owned());
        }
        Ok(Script { period, lines })
    }
}

impl Player {
    /// A viewer that comes in at `now` where the script is by then, which began at `origin`.
    pub fn new(script: Rc<Script>, origin: Now, now: Now) -> Player {
        let passed = now.0.saturating_sub(origin.0);
        let (round, within) = (passed / script.period, passed % script.period);
        let cursor = |lines: &Vec<Line>| {
            let next = lines.partition_point(|line| line.at < within);
            let over = next == lines.len();
            Cursor { round: round + u64::from(over), next: if over { 0 } else { next }, waits: false }
        };
        Player { cursors: script.lines.iter().map(cursor).collect(), script, origin }
    }

    /// See [`Player::poll`](super::Player::poll).
    pub fn poll(&mut self, now: Now) -> Option<Ask> {
        let due = |cursor: &Cursor, lines: &[Line]| {
            self.origin.0 + cursor.round * self.script.period + lines[cursor.next].at
        };
        for (connection, cursor) in self.cursors.iter_mut().enumerate() {
            let lines = &self.script.lines[connection];
            if cursor.waits || due(cursor, lines) > now.0 {
                continue;
            }
            cursor.waits = true;
            let Line { url, what, .. } = &lines[cursor.next];
            let request =
                Request { url: url.clone(), range: None, what: *what, body: Body::Count, held: false };
            return Some(Ask { connection, request });
        }
        None
    }

    /// See [`Player::deadline`](super::Player::deadline).
    pub fn deadline(&self) -> Option<Now> {
        let idle = self.cursors.iter().zip(&self.script.lines).filter(|(cursor, _)| !cursor.waits);
        let due = |(cursor, lines): (&Cursor, &Vec<Line>)| {
            Now(self.origin.0 + cursor.round * self.script.period + lines[cursor.next].at)
        };
        idle.map(due).min()
    }

    /// See [`Player::answered`](super::Player::answered).
    ///
    /// # Errors
    /// The server does not have it.
    pub fn answered(&mut self, connection: usize, answer: &Answer<'_>) -> Result<(), String> {
        let Some(cursor) = self.cursors.get_mut(connection) else { return Ok(()) };
        cursor.waits = false;
        cursor.next += 1;
        if cursor.next == self.script.lines[connection].len() {
            cursor.next = 0;
            cursor.round += 1;
        }
        if answer.is_success() { Ok(()) } else { Err(answer.refusal("a file of the right size")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let asked = |at, connection, playlist, bytes| Asked { at, connection, playlist, bytes };
        Trace {
            seconds: 1.0,
            asked: vec![
                asked(0.2, 0, true, 300),
                asked(0.2, 0, false, 5000),
                asked(0.25, 2, true, 310),
                asked(0.7, 0, true, 301),
                asked(0.701, 0, false, 6000),
                asked(0.8, 0, false, 0),
            ],
        }
    }

    fn door() -> Url {
        Url::parse("http://h:80/").unwrap()
    }

    /// The paths that are asked for at `millis` after the origin.
    fn paths(player: &mut Player, millis: u64) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        while let Some(Ask { connection, request }) = player.poll(Now(7_000_000_000 + millis * 1_000_000)) {
            found.push((connection, request.url.path.clone()));
        }
        found
    }

    #[test]
    fn requests_go_out_at_their_times_and_one_after_the_other() {
        let script = Rc::new(Script::new(&trace(), &door()).unwrap());
        let origin = Now(7_000_000_000);
        let mut player = Player::new(script, origin, origin);
        let url = Rc::new(door());
        let answer = Answer { status: 200, reason: "", url: &url, body: b"", gzip: false };
        assert_eq!(paths(&mut player, 199), []);
        assert_eq!(player.deadline(), Some(Now(7_200_000_000)));
        assert_eq!(paths(&mut player, 200), [(0, "/300".to_owned())]);
        assert_eq!(paths(&mut player, 200), []);
        player.answered(0, &answer).unwrap();
        assert_eq!(paths(&mut player, 230), [(0, "/5000".to_owned())]);
        assert_eq!(paths(&mut player, 300), [(1, "/310".to_owned())]);
        player.answered(0, &answer).unwrap();
        player.answered(1, &answer).unwrap();
        assert_eq!(player.deadline(), Some(Now(7_700_000_000)));
        assert_eq!(paths(&mut player, 720), [(0, "/301".to_owned())]);
        player.answered(0, &answer).unwrap();
        assert_eq!(paths(&mut player, 721), [(0, "/6000".to_owned())]);
        player.answered(0, &answer).unwrap();
        // It begins anew.
        assert_eq!(paths(&mut player, 1199), []);
        assert_eq!(paths(&mut player, 1250), [(0, "/300".to_owned()), (1, "/310".to_owned())]);
        assert!(player.answered(0, &Answer { status: 404, ..answer }).is_err());
    }

    #[test]
    fn a_viewer_that_comes_later_comes_in_where_the_others_are() {
        let script = Rc::new(Script::new(&trace(), &door()).unwrap());
        let at = |millis: u64| Player::new(script.clone(), Now(0), Now(millis * 1_000_000)).deadline();
        assert_eq!(at(500), Some(Now(700_000_000)));
        assert_eq!(at(3_500), Some(Now(3_700_000_000)));
        assert_eq!(at(3_900), Some(Now(4_200_000_000)));
    }

    #[test]
    fn nothing_cannot_be_repeated() {
        assert!(Script::new(&Trace::default(), &door()).is_err());
        assert!(Script::new(&Trace { seconds: 0.0, ..trace() }, &door()).is_err());
    }
}
