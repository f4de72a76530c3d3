//! Numbers and addresses as the C library reads them.

use std::net::Ipv4Addr;

/// `strtol(text, &end, 10)`: the number and what is left of the text. `None` without a digit, or when
/// the number does not fit.
pub(super) fn strtol(text: &str) -> Option<(i64, &str)> {
    let start = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = start.strip_prefix(['+', '-']).unwrap_or(start);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return None;
    }
    let (number, rest) = start.split_at(start.len() - digits.len() + length);
    Some((number.parse().ok()?, rest))
}

/// ipvsadm's `string_to_number`: the whole text is a number within these bounds.
pub(super) fn bounded(text: &str, least: i64, most: i64) -> Option<i64> {
    match strtol(text) {
        Some((number, "")) if (least..=most).contains(&number) => Some(number),
        _ => None,
    }
}

/// `inet_aton`: one to four parts, each decimal, octal or hexadecimal; the last fills what is left.
/// What follows a blank is ignored.
pub(super) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).next()?;
    let mut parts = text.split('.').map(aton_part);
    let mut address: u32 = 0;
    let mut last = parts.next()??;
    for shift in [24, 16, 8] {
        let Some(next) = parts.next() else {
            break;
        };
        if last > 0xff {
            return None;
        }
        address |= last << shift;
        last = next?;
    }
    if parts.next().is_some() {
        return None;
    }
    let free_bits = 32 - 8 * (text.matches('.').count() as u32).min(3);
    if u64::from(last) >> free_bits != 0 {
        return None;
    }
    Some(Ipv4Addr::from(address | last))
}

fn aton_part(part: &str) -> Option<u32> {
    let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None if part.starts_with('0') && part.len() > 1 => (&part[1..], 8),
        None => (part, 10),
    };
    if !digits.bytes().all(|byte| (byte as char).is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// `atoi`, as far as ipvsadm compares the result with small bounds.
pub(super) fn atoi(text: &str) -> i64 {
    strtol(text).map_or(0, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_forms_of_inet_aton() {
        let cases = [
            ("10.0.0.1", Some([10, 0, 0, 1])),
            ("10.1", Some([10, 0, 0, 1])),
            ("10.256", Some([10, 0, 1, 0])),
            ("0xa.1", Some([10, 0, 0, 1])),
            ("010.0.0.1", Some([8, 0, 0, 1])),
            ("167772162", Some([10, 0, 0, 2])),
            ("4294967295", Some([255, 255, 255, 255])),
            ("24", Some([0, 0, 0, 24])),
            ("10.0.0.5 x", Some([10, 0, 0, 5])),
            ("0", Some([0, 0, 0, 0])),
            ("4294967296", None),
            ("10.0.65536", None),
            ("10.0.0.256", None),
            ("256.1", None),
            ("10.0.0.08", None),
            ("10.0.0.", None),
            ("1.2.3.4.5", None),
            ("0x.1", None),
            (" 10.0.0.1", None),
            ("+1", None),
            ("", None),
            ("abc", None),
        ];
        for (text, address) in cases {
            assert_eq!(inet_aton(text), address.map(Ipv4Addr::from), "{text:?}");
        }
    }

    #[test]
    fn numbers_may_have_blanks_before_and_nothing_after() {
        assert_eq!(bounded(" 7", 0, 9), Some(7));
        assert_eq!(bounded("+7", 0, 9), Some(7));
        assert_eq!(bounded("-7", -9, 9), Some(-7));
        for text in [
            "7 ",
            "",
            "x",
            "0x7",
            "10",
            "99999999999999999999",
            "-",
            "+-7",
        ] {
            assert_eq!(bounded(text, 0, 9), None, "{text:?}");
        }
    }
}
