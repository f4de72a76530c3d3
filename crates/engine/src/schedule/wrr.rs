//! Weighted round robin as the kernel has it, not smooth (`ip_vs_wrr.c`; the rule is in the reference, §1.1).
//!
//! Picking is [`turn`](super::turn)'s; here is what changes to servers and weights do to it.

/// The level after servers or weights changed; the position goes back to before the list's head.
pub const fn level_after_change(level: u32, divisor: u32, mark: u32) -> u32 {
    if level > mark || level == 0 {
        mark
    } else if divisor > 1 {
        level / divisor * divisor + 1
    } else {
        level
    }
}

/// Divisor and mark for these weights: the greatest common divisor of those above zero (1 if none), and
/// the greatest weight less the divisor, plus one (0 if none).
pub fn divisor_and_mark(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (mut divisor, mut greatest) = (0u32, 0u32);
    for weight in weights.filter(|&w| w > 0) {
        let (mut a, mut b) = (weight, divisor);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        greatest = greatest.max(weight);
    }
    if divisor == 0 {
        (1, 0)
    } else {
        (divisor, greatest - (divisor - 1))
    }
}
