//! Numbers and lines as people read them.

use std::time::Duration;

/// Width of a report.
pub const WIDTH: usize = 80;

/// `1,234,567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.21 ms`, `12.3 ms`, `1,250 ms`: about three digits.
#[must_use]
pub fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.2} ms")
    } else if millis < 100.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{} ms", thousands(millis.round() as u64))
    }
}

/// A bar of at most `width` blocks; anything above zero shows.
#[must_use]
pub fn bar(value: usize, most: usize, width: usize) -> String {
    if value == 0 || most == 0 {
        return String::new();
    }
    "█".repeat((value * width).div_ceil(most).clamp(1, width))
}

/// Breaks a line at blanks so that no piece is wider than `width`, keeping blanks inside a piece.
#[must_use]
pub fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while rest.chars().count() > width {
        let limit = rest
            .char_indices()
            .nth(width)
            .map_or(rest.len(), |(byte, _)| byte);
        let end = match rest[..limit].trim_end().rfind(' ') {
            _ if rest[limit..].starts_with(' ') => limit,
            Some(blank) if !rest[..blank].trim().is_empty() => blank,
            _ => limit,
        };
        pieces.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits_that_matter() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(millis(Duration::from_micros(214)), "0.21 ms");
        assert_eq!(millis(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(millis(Duration::from_millis(1250)), "1,250 ms");
    }

    #[test]
    fn a_bar_shows_anything_above_zero_and_never_overflows() {
        assert_eq!(bar(50, 50, 10).chars().count(), 10);
        assert_eq!(bar(1, 1000, 10), "█");
        assert_eq!(bar(0, 50, 10), "");
        assert_eq!(bar(0, 0, 10), "");
    }

    #[test]
    fn no_piece_is_wider_than_the_page_and_no_word_is_lost() {
        let line =
            "every word of this line, and an_unusually_long_word_without_blanks, comes out again";
        for width in 1..90 {
            let pieces = wrap(line, width);
            assert!(
                pieces.iter().all(|piece| piece.chars().count() <= width),
                "{width}: {pieces:?}"
            );
            let letters = |text: &str| {
                text.chars()
                    .filter(|letter| !letter.is_whitespace())
                    .collect::<String>()
            };
            assert_eq!(letters(&pieces.concat()), letters(line));
        }
    }
}
