//! Segments that are asked for by when they are due.

use super::*;

fn slot(core: &mut Core, period: u64, slot: u64) -> Found {
    core.window.fetch(&Item::Slot { id: 0xabc, rendition: Rendition::Video, period, slot })
}

fn segment(core: &mut Core, number: u64) -> Vec<Bytes> {
    let item = Item::Segment { id: 0xabc, rendition: Rendition::Video, number, from: None };
    let Found::Bytes(bytes) = core.window.fetch(&item) else { panic!("segment {number} is not there") };
    bytes
}

/// A fragment without samples.
fn is_nothing(bytes: &Bytes) -> bool {
    bytes.len() < 200 && bytes.windows(4).any(|word| word == b"moof") && bytes.ends_with(b"\0\0\0\x08mdat")
}

#[test]
fn a_group_as_long_as_the_target_fills_a_slot() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 290));
    for number in 0..5 {
        let Found::Bytes(bytes) = slot(&mut core, 0, number) else { panic!("slot {number} is whole") };
        assert_eq!(bytes, segment(&mut core, number));
    }
    assert!(matches!(slot(&mut core, 0, 5), Found::Later), "it is being made");
    assert!(matches!(slot(&mut core, 0, 7), Found::Later), "somebody's clock is fast");
    assert!(matches!(slot(&mut core, 0, 8), Found::Missing));
    assert!(matches!(slot(&mut core, 1, 0), Found::Missing), "nobody has heard of that period");
    let other = Item::Slot { id: 1, rendition: Rendition::Video, period: 0, slot: 0 };
    assert!(matches!(core.window.fetch(&other), Found::Missing), "of another packaging");
    core.finish();
    let Found::Bytes(bytes) = slot(&mut core, 0, 5) else { panic!("nothing more will come") };
    assert_eq!(bytes, segment(&mut core, 5));
    let Found::Bytes(bytes) = slot(&mut core, 0, 6) else { panic!("whoever rounds up asks for it") };
    assert!(is_nothing(&bytes.concat().into()));
    assert!(matches!(slot(&mut core, 0, 7), Found::Missing));
}

#[test]
fn the_last_slot_that_is_left_may_lack_something_and_is_not_answered() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 1500));
    let left = core.window.shelf(Rendition::Video).unwrap().segments.front().unwrap().number;
    assert!(left > 4, "{left}");
    assert!(matches!(slot(&mut core, 0, left - 1), Found::Missing));
    assert!(matches!(slot(&mut core, 0, left), Found::Missing));
    assert!(matches!(slot(&mut core, 0, left + 1), Found::Bytes(_)));
}

#[test]
fn a_slot_behind_the_end_of_a_period_has_nothing_and_the_next_period_counts_from_zero() {
    let mut core = Core::usual(&[h264()]);
    core.give(&pictures(25, 50, 110));
    core.give(&[of(TrackId::DATA, 9000, Payload::Discontinuity)]);
    core.give(&(0..110).map(|number| picture(9000 + number * 40, number % 50 == 0)).collect::<Vec<_>>());
    let Found::Bytes(bytes) = slot(&mut core, 0, 2) else { panic!("what the break has left of it") };
    assert_eq!(bytes, segment(&mut core, 2));
    assert!(matches!(slot(&mut core, 0, 4), Found::Missing));
    for number in 0..2 {
        let Found::Bytes(bytes) = slot(&mut core, 1, number) else { panic!("slot {number} is whole") };
        assert_eq!(bytes, segment(&mut core, 3 + number));
    }
    assert!(matches!(slot(&mut core, 1, 2), Found::Later));
}

proptest! {
    #[test]
    fn each_segment_is_in_one_slot_and_the_order_stays(
        groups in proptest::collection::vec(15i64..130, 1..12),
        gaps in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let mut core = Core::usual(&[h264()]);
        let mut number = 0;
        for (group, gap) in groups.iter().zip(gaps) {
            // An encoder that pauses between two groups, for no longer than a break would be.
            number += if gap { 20 } else { 0 };
            if number + group > 500 {
                break;
            }
            core.give(&(0..*group).map(|of| picture((number + of) * 40, of == 0)).collect::<Vec<_>>());
            number += group;
        }
        core.finish();
        let Some(shelf) = core.window.shelf(Rendition::Video) else { return Ok(()) };
        let target = core.window.terms().unwrap().target;
        let wanted: Vec<Bytes> = shelf.segments.iter().flat_map(|segment| segment.bytes_from(0)).collect();
        let last = shelf.segments.back().unwrap().slot(target);
        let mut got = Vec::new();
        for number in 0..=last {
            match slot(&mut core, 0, number) {
                Found::Bytes(bytes) => got.extend(bytes),
                found => panic!("slot {number} of {last}: {found:?}"),
            }
        }
        let is_wanted = |bytes: &Bytes| wanted.iter().any(|wanted| wanted.as_ptr() == bytes.as_ptr());
        let (known, others): (Vec<Bytes>, Vec<Bytes>) = got.into_iter().partition(is_wanted);
        prop_assert_eq!(known, wanted);
        prop_assert!(others.iter().all(is_nothing));
    }
}
