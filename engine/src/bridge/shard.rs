//! Which stream a symbol's ticks go through.

use tickwire_proto::symbol::Symbol;

/// One of `of` streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub number: u32,
    /// How many there are: the same on every host.
    pub of: u32,
}

impl Shard {
    /// All of them.
    pub fn all(of: u32) -> impl Iterator<Item = Self> {
        (0..of).map(move |number| Self { number, of })
    }

    /// Whether a symbol's ticks go through this one.
    pub fn has(&self, symbol: &Symbol) -> bool {
        fnv_1a(symbol.as_str().as_bytes()) % u64::from(self.of) == u64::from(self.number)
    }

    /// Its stream. The braces keep all keys of a shard on one node of a Redis Cluster.
    pub fn stream(&self) -> String {
        format!("tickwire:{{{}}}", self.number)
    }

    /// The hash of the last tick of each of its symbols.
    pub fn last_ticks(&self) -> String {
        format!("{}:last", self.stream())
    }
}

/// FNV-1a, 64 bits (RFC 9923): hosts of different builds have to agree.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_has_one_shard_and_they_share_evenly() {
        let mut counts = [0; 4];
        for number in 0..1_000 {
            let symbol = Symbol::parse(&format!("S{number}")).unwrap();
            let own: Vec<Shard> = Shard::all(4).filter(|shard| shard.has(&symbol)).collect();
            assert_eq!(own.len(), 1, "{symbol}");
            counts[own[0].number as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (150..350).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn the_hash_is_what_other_builds_compute() {
        // Test vectors of the algorithm's authors.
        assert_eq!(fnv_1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn a_shards_keys_share_a_hash_tag() {
        let shard = Shard { number: 3, of: 4 };
        assert_eq!(shard.stream(), "tickwire:{3}");
        assert_eq!(shard.last_ticks(), "tickwire:{3}:last");
    }
}
