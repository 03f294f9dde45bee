//! A map for what is nearly always small: most subscribers follow a handful of symbols.
//!
//! Up to [`FEW`] entries lie side by side in a vector of exactly their size, in no order, and are
//! searched from end to end; a `HashMap` of one such entry takes 250 bytes and more, which counts
//! where there is one per connection. What outgrows that becomes a hash map and stays one.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Entries up to which a search from end to end is as fast as hashing.
const FEW: usize = 16;

/// A map of a few entries, or of many.
pub enum FewMap<K, V> {
    /// Searched from end to end.
    Few(Vec<(K, V)>),
    /// Hashed.
    Many(Box<FxHashMap<K, V>>),
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<K: Copy + Eq + Hash, V> FewMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(few) => few
                .iter()
                .find(|(own, _)| own == key)
                .map(|(_, value)| value),
            Self::Many(many) => many.get(key),
        }
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Few(few) => few
                .iter_mut()
                .find(|(own, _)| own == key)
                .map(|(_, value)| value),
            Self::Many(many) => many.get_mut(key),
        }
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Gives `key` a value; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Self::Few(few) = self {
            if let Some((_, own)) = few.iter_mut().find(|(own, _)| *own == key) {
                return Some(std::mem::replace(own, value));
            }
            if few.len() < FEW {
                few.reserve_exact(1);
                few.push((key, value));
                return None;
            }
            *self = Self::Many(Box::new(few.drain(..).collect()));
        }
        match self {
            Self::Many(many) => many.insert(key, value),
            Self::Few(_) => None,
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|(own, _)| own == key)?;
                let (_, value) = few.swap_remove(at);
                few.shrink_to_fit();
                Some(value)
            }
            Self::Many(many) => many.remove(key),
        }
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few.iter().map(|(key, value)| (key, value))), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Every value, to change, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few.iter_mut().map(|(_, value)| value)), None),
            Self::Many(many) => (None, Some(many.values_mut())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_as_a_hash_map(ops in prop::collection::vec((0..3_u8, 0..40_u32, 0..9_u32), 0..300)) {
            let mut ours = FewMap::default();
            let mut model = HashMap::new();
            for (op, key, value) in ops {
                if op == 0 {
                    prop_assert_eq!(ours.remove(&key), model.remove(&key));
                } else {
                    prop_assert_eq!(ours.insert(key, value), model.insert(key, value));
                }
                for value in ours.values_mut() {
                    *value += 1;
                }
                for value in model.values_mut() {
                    *value += 1;
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(ours.get(&key), model.get(&key));
                prop_assert_eq!(ours.get_mut(&key), model.get_mut(&key));
                prop_assert_eq!(ours.contains_key(&key), model.contains_key(&key));
            }
            let ours: HashMap<u32, u32> = ours.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(ours, model);
        }
    }

    #[test]
    fn one_entry_takes_its_own_size() {
        let mut map = FewMap::default();
        map.insert(1_u32, 2_u32);
        let FewMap::Few(few) = &map else {
            panic!("one entry is few");
        };
        assert_eq!((few.capacity(), size_of_val(&map)), (1, 24));
    }
}
