//! The Internet checksum as arithmetic on differences (RFC 1071, RFC 1624).
//!
//! A checksum field is changed by what changed in the data: take the old words out, put the new ones in.
//! Words are summed in memory order; the sum does not care about byte order as long as all are alike
//! (RFC 1071 §2 (B)).

/// A difference to be applied to checksum fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Difference(u64);

impl Difference {
    /// No difference.
    pub const fn none() -> Self {
        Self(0)
    }

    /// A 32-bit word of the data changed, such as an address.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// A 16-bit word of the data changed, such as a port.
    #[inline(always)]
    #[must_use]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The field that holds the checksum, after the change (RFC 1624 equation 3).
    #[inline(always)]
    pub const fn apply(self, field: u16) -> u16 {
        !fold(self.0 + !field as u64)
    }

    /// As [`apply`](Self::apply) for UDP, where a computed zero is sent as all ones (RFC 768).
    #[inline(always)]
    pub const fn apply_udp(self, field: u16) -> u16 {
        match self.apply(field) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// The 16-bit one's complement sum of a sum of 16 and 32-bit words (below 2^48).
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    // Three steps are enough: 48 bits → 33 → 18 → 17; the last carries the final bit.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of the pseudo header of TCP or UDP (RFC 793 §3.1), not complemented, from fields as on the wire.
#[inline(always)]
pub const fn pseudo_header(source: u32, destination: u32, protocol: u8, length: u16) -> u64 {
    source as u64 + destination as u64 + (protocol as u16).to_be() as u64 + length.to_be() as u64
}

/// The sum of bytes as 16-bit words in memory order, the last one filled up with a zero byte.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_difference_gives_what_a_whole_sum_gives(mut data in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..4, new: u32) {
            let before = !fold(sum(&data));
            let at = at * 4;
            let old = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
            data[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let whole = !fold(sum(&data));
            let step = Difference::none().word(old, new).apply(before);
            // Both zeros of one's complement are the same number.
            prop_assert!(step == whole || (step.is_multiple_of(0xffff) && whole.is_multiple_of(0xffff)));
        }
    }

    #[test]
    fn udp_never_gets_a_zero() {
        assert_eq!(Difference::none().apply_udp(0), 0xffff);
        assert_eq!(Difference::none().apply_udp(0x1234), 0x1234);
    }

    #[test]
    fn the_sum_of_a_header_with_its_checksum_is_all_ones() {
        let header = [
            0x45, 0, 0, 0x28, 0x12, 0x34, 0x40, 0, 0x40, 6, 0x14, 0x38, 10, 0, 0, 100, 10, 0, 0, 1,
        ];
        assert_eq!(fold(sum(&header)), 0xffff);
    }
}
