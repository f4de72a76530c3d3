//! SipHash-1-3 over 64-bit words, as the kernel's `hsiphash` has it (`lib/siphash.c`, 64-bit machines): the hash
//! of the schedulers mh and maglev.
//!
//! A message is whole words, then a last one that holds what is left over and the message's length.

/// SipHash under way.
#[derive(Clone, Copy, Debug)]
pub struct SipHash13 {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash13 {
    /// Begin with a key.
    #[inline(always)]
    pub const fn new(key0: u64, key1: u64) -> Self {
        Self {
            v0: 0x736f_6d65_7073_6575 ^ key0,
            v1: 0x646f_7261_6e64_6f6d ^ key1,
            v2: 0x6c79_6765_6e65_7261 ^ key0,
            v3: 0x7465_6462_7974_6573 ^ key1,
        }
    }

    /// Take in eight bytes, the first in the lowest bits.
    #[inline(always)]
    pub const fn word(self, word: u64) -> Self {
        let mut next = Self {
            v3: self.v3 ^ word,
            ..self
        };
        next = next.round();
        next.v0 ^= word;
        next
    }

    /// Take in the last word: fewer than eight bytes, and the lowest byte of the message's length. Gives the hash.
    #[inline(always)]
    pub const fn finish(self, rest: u64, length: u64) -> u64 {
        let mut last = self.word(rest | length << 56);
        last.v2 ^= 0xff;
        last = last.round().round().round();
        last.v0 ^ last.v1 ^ last.v2 ^ last.v3
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let Self {
            mut v0,
            mut v1,
            mut v2,
            mut v3,
        } = self;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_hash_as_those_of_the_reference_do() {
        // Key 00 01 .. 0f, messages 00 01 02 .. of 0, 4, 8 and 16 bytes.
        let (a, b) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let key = SipHash13::new(a, b);
        assert_eq!(key.finish(0, 0), 0xabac_0158_050f_c4dc);
        assert_eq!(key.finish(0x0302_0100, 4), 0xcf75_5760_88d3_8328);
        assert_eq!(key.word(a).finish(0, 8), 0x3690_9511_8d29_9a8e);
        assert_eq!(key.word(a).word(b).finish(0, 16), 0xcc4f_dd1a_7d90_8b66);
    }

    proptest! {
        #[test]
        fn any_words_hash_as_in_the_standard_library(words: Vec<u64>, rest: u32) {
            let mut theirs = DefaultHasher::new();
            let mut ours = SipHash13::new(0, 0);
            for word in &words {
                theirs.write(&word.to_le_bytes());
                ours = ours.word(*word);
            }
            theirs.write(&rest.to_le_bytes());
            let length = 8 * words.len() as u64 + 4;
            prop_assert_eq!(ours.finish(rest as u64, length & 0xff), theirs.finish());
        }
    }
}
