//! Which cores this process may use.

/// The core of each of `shards` threads: the first ones that this process may use, in their order. With more shards than
/// cores they share; where the system does not say, a thread is left to the scheduler (`None`).
pub fn choose(shards: usize) -> Vec<Option<usize>> {
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    (0..shards).map(|shard| cores.get(shard % cores.len().max(1)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_gets_a_core_and_the_first_ones_differ() {
        let cores = core_affinity::get_core_ids().expect("Linux says which cores there are").len();
        let chosen = choose(cores + 1);
        assert_eq!(chosen.len(), cores + 1);
        assert!(chosen.iter().all(Option::is_some));
        assert_eq!(chosen[0], chosen[cores], "one shard more than cores shares the first");
        let mut own = chosen[..cores].to_vec();
        own.dedup();
        assert_eq!(own.len(), cores);
    }
}
