//! What a run's figures are worth: whether it counts, and whether what was delivered was what was published. The
//! reports show it, a comparison leaves void runs out by it.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// The worth of one run, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its figures mean nothing: the load side failed, not the server.
    Void,
    /// It counts, and the server did something wrong.
    Failed,
    /// It counts, and nobody looked at what was delivered (a floor, a scenario without viewers).
    Unchecked,
    /// It counts, and all that was looked at was as it should be.
    Passed,
}

/// One thing that a server may do wrong, and how often it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// What went wrong, in the plural.
    pub name: &'static str,
    /// How often. Zero is as it should be.
    pub count: u64,
    /// What that means for who watches.
    pub meaning: &'static str,
}

impl Verdict {
    /// The worth of `outcome`.
    pub fn of(outcome: &Outcome) -> Self {
        let recorded = outcome.recording.map_or(0, |recording| recording.pictures);
        if !outcome.void.is_empty() {
            Verdict::Void
        } else if checks(outcome).iter().any(|check| check.count > 0) {
            Verdict::Failed
        } else if outcome.checks.pictures == 0 && recorded == 0 {
            Verdict::Unchecked
        } else {
            Verdict::Passed
        }
    }
}

/// Everything that was looked at in `outcome`, in the order in which it hurts.
pub fn checks(outcome: &Outcome) -> Vec<Check> {
    let found = &outcome.checks;
    let viewers = &outcome.viewers;
    let check = |name, count, meaning| Check { name, count, meaning };
    let mut checks = vec![
        check("viewers refused", viewers.refused, "The server did not take them, or they could not connect."),
        check("viewers disconnected", viewers.disconnected, "The server closed them while they kept up."),
        check("viewers without a picture", without_picture(outcome), "At the end no key frame had come."),
        check("parsing viewers sent nothing", sent_nothing(outcome), "They read all they got: no picture."),
        check("holes between pictures", found.gaps, "The picture jumps or freezes there."),
        check("pictures missing in holes", found.missing_pictures, "So many were never delivered."),
        check("pictures twice or out of order", found.out_of_order, "A player stutters or shows rubbish."),
        check("starts without a key frame", found.began_without_key, "Grey or broken until the next one."),
        check("pictures damaged", found.damaged, "Their bytes are not those that were published."),
        check("times that went backwards", found.time_backwards, "Players stall or drop what comes late."),
        check("viewers sent what is no frame", found.unreadable, "A player gives up."),
        check(
            "pieces not to be had",
            found.not_found,
            "They are listed, and the picture stands still there.",
        ),
        check(
            "playlists that went back",
            found.sequence_backwards,
            "A player plays again what it had, or stops.",
        ),
        check(
            "pieces of another length",
            found.durations_wrong,
            "The list says otherwise: sound and picture drift.",
        ),
        check(
            "held playlists without news",
            found.reloads_unanswered,
            "A player asks again and again, and is late.",
        ),
        check(
            "bytes missing",
            outcome.traffic.missing_bytes,
            "Viewers that only count got less than those that parse.",
        ),
    ];
    if let Some(recording) = outcome.recording {
        checks.push(check(
            "pictures missing in recordings",
            recording.missing_pictures,
            "They were published and are in no file.",
        ));
    }
    checks
}

/// Those of [`checks`] that found something, as words: `holes between pictures: 3`.
pub fn faults(outcome: &Outcome) -> Vec<String> {
    let found = checks(outcome).into_iter().filter(|check| check.count > 0);
    found.map(|check| format!("{}: {}", check.name, crate::report::whole(check.count as f64))).collect()
}

/// Healthy viewers that were there at the end and had no key frame. Under churn a few are on their way at any time, so
/// there a twentieth may be; those that were refused or closed are counted as such.
fn without_picture(outcome: &Outcome) -> u64 {
    let viewers = &outcome.viewers;
    let healthy = viewers.asked.saturating_sub(viewers.stalling + viewers.slow);
    let churn = viewers.joined > viewers.asked;
    let missing = healthy.saturating_sub(viewers.playing + viewers.refused + viewers.disconnected);
    if churn && missing * 20 <= healthy { 0 } else { missing }
}

/// Viewers that parse, when none of them was sent a single picture.
fn sent_nothing(outcome: &Outcome) -> u64 {
    if outcome.checks.pictures == 0 { outcome.viewers.parsing.max(outcome.checks.viewers) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outcome {
        let mut outcome = Outcome::default();
        outcome.viewers.asked = 100;
        outcome.viewers.joined = 100;
        outcome.viewers.playing = 100;
        outcome.viewers.parsing = 5;
        outcome.checks.viewers = 5;
        outcome.checks.pictures = 500;
        outcome
    }

    #[test]
    fn a_run_without_a_fault_passes_and_one_that_nobody_looked_at_does_not() {
        assert_eq!(Verdict::of(&good()), Verdict::Passed);
        assert_eq!(Verdict::of(&Outcome::default()), Verdict::Unchecked);
        let mut recorded = Outcome::default();
        recorded.recording.get_or_insert_default().pictures = 10;
        assert_eq!(Verdict::of(&recorded), Verdict::Passed);
    }

    #[test]
    fn every_fault_that_can_be_counted_fails_a_run() {
        let spoil: [fn(&mut Outcome); 15] = [
            |outcome| outcome.viewers.refused = 1,
            |outcome| outcome.viewers.disconnected = 1,
            |outcome| outcome.viewers.playing = 99,
            |outcome| outcome.checks.pictures = 0,
            |outcome| outcome.checks.gaps = 1,
            |outcome| outcome.checks.out_of_order = 1,
            |outcome| outcome.checks.began_without_key = 1,
            |outcome| outcome.checks.damaged = 1,
            |outcome| outcome.checks.time_backwards = 1,
            |outcome| outcome.checks.unreadable = 1,
            |outcome| outcome.checks.not_found = 1,
            |outcome| outcome.checks.sequence_backwards = 1,
            |outcome| outcome.checks.durations_wrong = 1,
            |outcome| outcome.checks.reloads_unanswered = 1,
            |outcome| outcome.traffic.missing_bytes = 1,
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut outcome = good();
            spoil(&mut outcome);
            assert_eq!(Verdict::of(&outcome), Verdict::Failed, "fault {number}");
            assert_eq!(faults(&outcome).len(), 1, "fault {number}");
            let is_the_viewers = outcome.checks != good().checks && outcome.checks.pictures > 0;
            assert!(!is_the_viewers || !outcome.checks.passed(), "fault {number}");
            outcome.void.push("The publisher was late.".into());
            assert_eq!(Verdict::of(&outcome), Verdict::Void);
        }
    }

    #[test]
    fn viewers_that_stall_on_purpose_or_are_on_their_way_under_churn_are_no_fault() {
        let mut outcome = good();
        outcome.viewers.stalling = 40;
        outcome.viewers.slow = 10;
        outcome.viewers.playing = 50;
        assert_eq!(Verdict::of(&outcome), Verdict::Passed);
        outcome.viewers.joined = 400;
        outcome.viewers.playing = 48;
        assert_eq!(Verdict::of(&outcome), Verdict::Passed);
        outcome.viewers.playing = 40;
        assert_eq!(faults(&outcome), ["viewers without a picture: 10"]);
    }
}
