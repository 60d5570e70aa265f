//! Lines, numbers, dates and attribute lists of playlists (draft-pantos-hls-rfc8216bis §4.1, §4.2),
//! read without any tolerance: what a server writes here, old players must read as well.

use super::Fault;
use std::collections::BTreeMap;

/// The lines of a playlist with their numbers, from 1; comments and blank lines are left out.
pub(super) fn lines(text: &[u8]) -> Result<Vec<(usize, &str)>, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::new(0, "a playlist is UTF-8 (§4)"))?;
    if text.starts_with('\u{FEFF}') {
        return Err(Fault::new(1, "a playlist has no byte order mark (§4)"));
    }
    let is_control = |letter: char| letter.is_control() && letter != '\n' && letter != '\r';
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.contains(is_control) {
            return Err(Fault::new(number, "a playlist has no control characters (§4)"));
        }
        if number == 1 && line != "#EXTM3U" {
            return Err(Fault::new(1, "the first line is #EXTM3U (§4.4.1.1)"));
        }
        let is_comment = line.starts_with('#') && !line.starts_with("#EXT");
        if number > 1 && !line.is_empty() && !is_comment {
            lines.push((number, line));
        }
    }
    if text.is_empty() {
        return Err(Fault::new(1, "the first line is #EXTM3U (§4.4.1.1)"));
    }
    Ok(lines)
}

/// A tag and what stands behind its colon.
pub(super) fn tag(line: &str) -> Option<(&str, &str)> {
    line.starts_with("#EXT").then(|| line.split_once(':').unwrap_or((line, "")))
}

/// A decimal-integer.
pub(super) fn integer(number: usize, text: &str) -> Result<u64, Fault> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| is_number);
    value.ok_or_else(|| Fault::new(number, format!("{text}: a decimal-integer (§4.2)")))
}

/// A decimal-floating-point: digits, and at most one point among them.
pub(super) fn decimal(number: usize, text: &str) -> Result<f64, Fault> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits(whole) && digits(rest));
    value.ok_or_else(|| Fault::new(number, format!("{text}: a decimal-floating-point (§4.2)")))
}

/// An ISO 8601 date and time as microseconds since the Unix epoch.
pub(super) fn date(number: usize, text: &str) -> Result<i64, Fault> {
    parse_date(text).ok_or_else(|| Fault::new(number, format!("{text}: a date (§4.4.4.6)")))
}

fn parse_date(text: &str) -> Option<i64> {
    let (day, time) = text.split_once('T')?;
    let mut parts = day.splitn(3, '-');
    let mut next = |digits: usize| number(parts.next()?, digits);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    let zone_at = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone_at)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.splitn(3, ':');
    let mut next = || number(parts.next()?, 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset_seconds(zone)?) * 1_000_000 + micros)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.get(..1)? {
        "Z" if zone == "Z" => return Some(0),
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours, 2)? * 3_600 + number(minutes, 2)? * 60))
}

/// Days of the proleptic Gregorian calendar; years begin in March here, so that leap days come
/// last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + day_of_year - 719_468
}

/// An attribute list: every name once, every value in its form.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    line: usize,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn read(line: usize, text: &'a str) -> Result<Self, Fault> {
        let mut values = BTreeMap::new();
        let mut rest = text;
        loop {
            let fault = |what: &str| Fault::new(line, format!("{what} (§4.2) in {text}"));
            let (name, after) = rest.split_once('=').ok_or_else(|| fault("NAME=VALUE"))?;
            let is_name = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-');
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(fault("an AttributeName is of [A-Z0-9-]"));
            }
            let end = match after.strip_prefix('"') {
                Some(quoted) => quoted.find('"').ok_or_else(|| fault("a closing quote"))? + 2,
                None => after.find(',').unwrap_or(after.len()),
            };
            let (value, after) = after.split_at(end);
            if value.is_empty() || value.starts_with([' ', '\t']) {
                return Err(fault("a value without white space around it"));
            }
            if values.insert(name, value).is_some() {
                return Err(fault("an AttributeName stands once"));
            }
            rest = match after.strip_prefix(',') {
                Some(rest) => rest,
                None if after.is_empty() => return Ok(Self { line, values }),
                None => return Err(fault("a comma between attributes")),
            };
        }
    }

    fn fault(&self, name: &str, what: &str) -> Fault {
        Fault::new(self.line, format!("{name}: {what} (§4.2)"))
    }

    /// A quoted-string.
    pub(super) fn quoted(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let inner = inner.ok_or_else(|| self.fault(name, "a quoted-string"))?;
        Ok(Some(inner.to_owned()))
    }

    /// An enumerated-string.
    pub(super) fn word(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        if value.contains(['"', ' ']) {
            return Err(self.fault(name, "an enumerated-string"));
        }
        Ok(Some(value))
    }

    /// An enumerated-string that is YES, or where it may be NO.
    pub(super) fn yes(&self, name: &str, or_no: bool) -> Result<bool, Fault> {
        match self.word(name)? {
            None => Ok(false),
            Some("YES") => Ok(true),
            Some("NO") if or_no => Ok(false),
            Some(_) => Err(self.fault(name, "its only value is YES")),
        }
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.values.get(name).map(|value| integer(self.line, value)).transpose()
    }

    pub(super) fn decimal(&self, name: &str) -> Result<Option<f64>, Fault> {
        self.values.get(name).map(|value| decimal(self.line, value)).transpose()
    }

    /// What must be there.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| Fault::new(self.line, format!("{name} is required")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_without_tolerance() {
        let read = |text: &str| Attributes::read(1, text).map(|list| format!("{:?}", list.values));
        let list = r#"{"A-1": "\"x,y=z\"", "B": "YES"}"#;
        assert_eq!(read(r#"A-1="x,y=z",B=YES"#).as_deref(), Ok(list));
        for wrong in ["", "A", "A=", "a=1", "A=1,A=2", "A=1,", "A= 1", r#"A="x"#, r#"A="x"B=1"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_are_microseconds_since_1970() {
        let read = |text: &str| parse_date(text);
        assert_eq!(read("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("2010-02-19T14:54:23.031+08:00"), Some(1_266_562_463_031_000));
        assert_eq!(read("2024-02-29T12:00:00.123456Z"), Some(1_709_208_000_123_456));
        for wrong in ["2010-02-19", "2010-2-19T14:54:23Z", "2010-02-19T14:54:23", "x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(decimal(1, "0.20100"), Ok(0.201));
        assert_eq!(decimal(1, "2"), Ok(2.0));
        for wrong in ["", ".5", "5.", "-1", "1e3", "1.2.3", "inf"] {
            assert!(decimal(1, wrong).is_err(), "{wrong}");
        }
        assert!(integer(1, "+1").is_err());
        assert_eq!(integer(1, "007"), Ok(7));
    }
}
