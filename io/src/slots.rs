//! A table of things with an operation in flight, addressed by index and generation. An id that outlives what it
//! named finds nothing, so a late completion or a stale id of a caller is harmless.

/// Bits of a generation. It travels through the kernel beside the index and the kind of the operation in 64 bits.
pub(crate) const GENERATION_BITS: u32 = 24;

/// Names one value of a [`Slots`] table, for as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    pub index: u32,
    pub generation: u32,
}

/// The table. Grows as needed up to its capacity; a freed slot is used again under the next generation.
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub fn new(capacity: u32) -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new(), capacity }
    }

    /// Puts a value into a free slot, or gives it back when the table is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            assert!(slot.value.is_none(), "a slot on the free list is empty");
            slot.value = Some(value);
            return Ok(Key { index, generation: slot.generation });
        }
        let index = self.slots.len() as u32;
        if index == self.capacity {
            return Err(value);
        }
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Ok(Key { index, generation: 0 })
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == key.generation)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == key.generation)
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let slot = &mut self.slots[key.index as usize];
        // A generation may come round again after 16 million uses of one slot; by then every operation of the first
        // has long completed, since a slot is only freed after its last completion.
        slot.generation = (slot.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.free.push(key.index);
        slot.value.take()
    }

    /// The first value that answers to a description. Walks the table: for tables with a handful of values.
    pub fn find(&self, mut matches: impl FnMut(&T) -> bool) -> Option<Key> {
        let found = |slot: &Slot<T>| slot.value.as_ref().is_some_and(&mut matches);
        let index = self.slots.iter().position(found)?;
        Some(Key { index: index as u32, generation: self.slots[index].generation })
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_nothing_after_its_value_left_even_when_the_slot_is_used_again() {
        let mut slots = Slots::new(1);
        let first = slots.insert("first").unwrap();
        assert_eq!(slots.insert("no room"), Err("no room"));
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second").unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.len(), 1);
    }
}
