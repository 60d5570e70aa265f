//! One range of bytes (RFC 9110 §14): what of a file is asked for.
//!
//! Several ranges in one request, and what is no range at all, get the whole file, as §14.2 lets a
//! server choose: players ask for one. Fuzz target: `hls_range`.

use std::ops::Range;

/// What a `Range` header comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, of which there is at least one: 206.
    Part(Range<usize>),
    /// None of which there are: 416.
    Nothing,
}

/// Reads a `Range` header for a file of so many bytes.
pub fn parse_range(header: &str, len: usize) -> Wanted {
    let Some((unit, range)) = header.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let range = match (number(first), number(last)) {
        (Number::Is(first), Number::Absent) => first..len,
        (Number::Is(first), Number::Is(last)) if first <= last => {
            first..last.saturating_add(1).min(len)
        }
        (Number::Absent, Number::Is(suffix)) => len.saturating_sub(suffix)..len,
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

enum Number {
    Absent,
    Is(usize),
    Bad,
}

/// Digits, or nothing. What is too large to count is as large as can be.
fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Bad;
    }
    Number::Is(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_taken_and_more_are_not() {
        for (header, expected) in [
            ("bytes=0-", Wanted::Part(0..10)),
            ("bytes=0-0", Wanted::Part(0..1)),
            ("Bytes=3-5", Wanted::Part(3..6)),
            ("bytes=9-99999999999999999999999", Wanted::Part(9..10)),
            ("bytes=-4", Wanted::Part(6..10)),
            ("bytes=-40", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-3", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-", Wanted::Whole),
            ("seconds=0-1", Wanted::Whole),
            ("bytes", Wanted::Whole),
        ] {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
        assert_eq!(parse_range("bytes=-1", 0), Wanted::Nothing);
    }
}
