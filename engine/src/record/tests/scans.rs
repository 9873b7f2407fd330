//! Scans of what recorders wrote: what is whole, what is torn, where to cut.

use proptest::prelude::*;

use super::*;

#[test]
fn the_zeros_of_space_that_was_never_written_are_cut() {
    let world = recorded(&stream(0..5000, 1000), Duration::from_secs(600));
    let whole = world.file(0).to_vec();
    let mut file = whole.clone();
    file.resize(whole.len() + (1 << 20), 0);
    let report = scan::scan(&file[..], Depth::Content).unwrap();
    assert_eq!((report.tail, report.repair()), (Tail::Zeros, Repair::Truncate(whole.len() as u64)));
    assert_eq!(report.findings, []);
}

#[test]
fn a_file_torn_anywhere_keeps_every_whole_fragment() {
    let world = recorded(&stream(0..4000, 1000), Duration::from_secs(600));
    let whole = world.file(0).to_vec();
    let ends: Vec<_> = world.disk.fragments.iter().map(|(_, offset, len, _)| offset + *len as u64).collect();
    assert!(ends.len() >= 4);
    for zeros in [0, 1 << 18] {
        for len in (0..whole.len()).step_by(512) {
            let mut file = whole[..len].to_vec();
            file.resize(len + zeros, 0);
            for depth in [Depth::Heads, Depth::Content] {
                let report = scan::scan(&file[..], depth).unwrap();
                let kept = ends.iter().filter(|end| **end <= report.valid).count() as u64;
                // Padding that is missing costs nothing: its fragment may count as whole.
                let expected = ends.iter().filter(|end| **end <= len as u64).count() as u64;
                assert!(report.fragments == expected || report.fragments == expected + 1, "{len} {report:?}");
                assert!(kept >= expected, "{len} {report:?}");
                match report.repair() {
                    Repair::Truncate(to) => {
                        let repaired = scan::scan(&file[..to as usize], Depth::Content).unwrap();
                        assert_eq!(repaired.tail, Tail::None, "{len}");
                        assert_eq!(repaired.fragments, report.fragments);
                    }
                    Repair::Remove => assert_eq!(report.fragments, 0),
                    Repair::None => assert!(ends.contains(&report.valid) || report.tail == Tail::Foreign),
                }
            }
        }
    }
}

#[test]
fn a_block_that_never_reached_the_disk_ends_the_valid_part() {
    let world = recorded(&stream(0..4000, 1000), Duration::from_secs(600));
    let whole = world.file(0).to_vec();
    let (_, start, len, _) = world.disk.fragments[2];
    for block in (start as usize..start as usize + len).step_by(4096) {
        let mut file = whole.clone();
        file[block..block + 4096].fill(0);
        let report = scan::scan(&file[..], Depth::Content).unwrap();
        assert_eq!((report.valid, report.fragments, report.tail), (start, 2, Tail::Torn), "{block}");
        assert_eq!(report.findings.len(), 1);
    }
}

#[test]
fn what_is_no_recording_is_left_alone() {
    for foreign in [&b"#!/bin/sh\necho precious\n"[..], &b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"[..]] {
        let report = scan::scan(foreign, Depth::Content).unwrap();
        assert_eq!((report.tail, report.repair()), (Tail::Foreign, Repair::None));
    }
    assert_eq!(scan::scan(&[][..], Depth::Content).unwrap().repair(), Repair::Remove);
    assert_eq!(scan::scan(&[0; 8192][..], Depth::Content).unwrap().repair(), Repair::Remove);
}

#[test]
fn a_frame_whose_units_do_not_fill_it_is_found() {
    let mut world = World::new(Duration::from_secs(600));
    world.parameters(TrackId::VIDEO, h264());
    let mut broken = picture(0, 0, true);
    let data = Bytes::from_static(&[0, 0, 1, 0, 0x65, 1, 2, 3]);
    broken.payload = Payload::Video { codec: Codec::H264, key: true, data };
    world.live(&broken);
    world.finish();
    let report = scan::scan(world.file(0), Depth::Content).unwrap();
    assert!(
        matches!(
            &report.findings[..],
            [Finding { what: "a NAL unit that leads past the end of its frame", .. }]
        ),
        "{report:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_makes_a_scan_panic(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut file = recorded(&stream(0..1500, 1000), Duration::from_secs(600)).file(0).to_vec();
        // Mostly heads: flips in the media say little.
        file.truncate(3000);
        for (place, byte) in places {
            let place = place.index(file.len());
            file[place] = byte;
        }
        let report = scan::scan(&file[..], Depth::Content).unwrap();
        prop_assert!(report.valid <= report.size);
    }
}
