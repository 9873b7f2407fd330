//! What one frame costs the hub when 1, 100 and 1000 viewers are to get it: the machine alone, without a kernel.

use shardcast_bench::room::Room;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 100, 1000])]
fn one_frame_to_viewers(bencher: divan::Bencher<'_, '_>, viewers: u32) {
    let mut room = Room::new(viewers);
    room.frame();
    bencher.counter(divan::counter::ItemsCount::new(viewers)).bench_local(|| room.frame());
}
