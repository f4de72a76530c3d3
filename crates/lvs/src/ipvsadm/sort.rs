//! The order of lists.
//!
//! ipvsadm compares 32-bit numbers by the sign of their wrapped difference, so 192.0.2.1 comes before
//! 10.0.0.1. Numbers spread over more than half of the circle have no order by that rule, and what the
//! real one shows then depends on the kernel's hash table. Here the circle is cut at its widest gap: the
//! same result wherever the rule has one, and always the same result.

use std::net::IpAddr;

use crate::model::{Family, ServerKey, ServiceKey};

/// Order services: mark, family, protocol, address, port.
pub(super) fn services<T>(items: &mut [T], key: impl Fn(&T) -> ServiceKey) {
    sort(items, &|item| match key(item) {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => {
            let [a, b, c, d] = words(address);
            [
                0,
                family(Family::of(address)),
                protocol.number().into(),
                a,
                b,
                c,
                d,
                port.into(),
            ]
        }
        ServiceKey::Mark { mark, family: of } => [mark, family(of), 0, 0, 0, 0, 0, 0],
    });
}

/// Order servers: address, port. Families are not kept apart: 192.168.1.9, fd01::1, 10.0.0.9.
pub(super) fn servers<T>(items: &mut [T], key: impl Fn(&T) -> ServerKey) {
    sort(items, &|item| {
        let ServerKey { address, port } = key(item);
        let [a, b, c, d] = words(address);
        [a, b, c, d, port.into()]
    });
}

const fn family(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.into(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            [
                (bits >> 96) as u32,
                (bits >> 64) as u32,
                (bits >> 32) as u32,
                bits as u32,
            ]
        }
    }
}

fn sort<T, const N: usize>(items: &mut [T], key: &dyn Fn(&T) -> [u32; N]) {
    sort_from(items, key, 0);
}

fn sort_from<T, const N: usize>(items: &mut [T], key: &dyn Fn(&T) -> [u32; N], column: usize) {
    if column == N || items.len() < 2 {
        return;
    }
    let word = |item: &T| key(item)[column];
    items.sort_by_key(word);
    let start = after_widest_gap(items.iter().map(word).collect());
    items.rotate_left(start);
    for same in items.chunk_by_mut(|a, b| word(a) == word(b)) {
        sort_from(same, key, column + 1);
    }
}

/// Where the circle of these sorted numbers begins.
fn after_widest_gap(sorted: Vec<u32>) -> usize {
    let Some(last) = sorted.last() else {
        return 0;
    };
    let mut widest = (0, sorted[0].wrapping_sub(*last));
    for (index, pair) in sorted.windows(2).enumerate() {
        let gap = pair[1] - pair[0];
        if gap > widest.1 {
            widest = (index + 1, gap);
        }
    }
    widest.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(addresses: &[[u8; 4]]) -> Vec<[u8; 4]> {
        let mut addresses = addresses.to_vec();
        servers(&mut addresses, |address| ServerKey {
            address: (*address).into(),
            port: 80,
        });
        addresses
    }

    #[test]
    fn far_apart_addresses_come_backwards() {
        assert_eq!(
            sorted(&[[10, 0, 0, 1], [192, 0, 2, 1]]),
            [[192, 0, 2, 1], [10, 0, 0, 1]]
        );
        assert_eq!(
            sorted(&[[10, 0, 0, 10], [10, 0, 0, 9]]),
            [[10, 0, 0, 9], [10, 0, 0, 10]]
        );
    }

    #[test]
    fn the_same_addresses_come_in_the_same_order_however_they_were_added() {
        let expected = [[200, 0, 0, 1], [1, 0, 0, 1], [100, 0, 0, 1]];
        assert_eq!(
            sorted(&[[1, 0, 0, 1], [100, 0, 0, 1], [200, 0, 0, 1]]),
            expected
        );
        assert_eq!(
            sorted(&[[200, 0, 0, 1], [100, 0, 0, 1], [1, 0, 0, 1]]),
            expected
        );
    }
}
