//! Options that differ from stream to stream, and the names of those that a row is meant for.

/// A stream's name, in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._~-/*".contains(c);
        let fits = (1..=128).contains(&text.len()) && text.chars().all(legal);
        fits.then(|| Self(text.to_owned()))
    }

    /// Whether a stream's name fits.
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Between the first and the last part each is looked for as far ahead as it can be.
        let after = parts.try_fold(rest, |rest, part| rest.split_once(part).map(|(_, rest)| rest));
        after.is_some_and(|rest| rest.ends_with(last))
    }
}

/// What an option is for the streams of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// Which streams.
    pub pattern: Pattern,
    /// What it is for them.
    pub value: T,
}

impl<T> Row<T> {
    /// Reads one.
    pub(super) fn parse(
        pattern: &str,
        value: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Self> {
        Some(Self { pattern: Pattern::parse(pattern)?, value: parse(value)? })
    }

    /// What the first of these rows says that fits a stream.
    pub(super) fn first<'r>(rows: &'r [Self], stream: &str) -> Option<&'r T> {
        rows.iter().find(|row| row.pattern.fits(stream)).map(|row| &row.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "a/b", true),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbx", false),
            ("a*a", "a", false),
        ] {
            let parsed = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(parsed.fits(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn what_no_name_can_be_is_no_pattern() {
        for bad in ["", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }
}
