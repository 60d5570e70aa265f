//! HTTP/1.1 responses as they come, piece by piece (RFC 9112): the head is read, and of the body no
//! more than its end is looked for. Pure.

/// The longest head that is waited for.
const HEAD_MAX: usize = 16 * 1_024;

/// What a head says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) gzip: bool,
    pub(super) etag: Option<Box<str>>,
    pub(super) retry_after_s: Option<u64>,
}

impl Head {
    /// The head at the beginning of this, and how long it is; none while its end is missing.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            return if bytes.len() > HEAD_MAX { Err("an endless head") } else { Ok(None) };
        };
        let text = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let mut lines = text.ok_or("a head that is no text")?.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let status = start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let mut head = Self { status: status.ok_or("no HTTP/1.1")?, ..Self::default() };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = Some(value.parse().map_err(|_| "a length that is no number")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                head.close = value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("content-encoding") {
                head.gzip = value.eq_ignore_ascii_case("gzip");
            } else if name.eq_ignore_ascii_case("etag") {
                head.etag = Some(value.into());
            } else if name.eq_ignore_ascii_case("retry-after") {
                head.retry_after_s = value.parse().ok();
            }
        }
        Ok(Some((head, end + 4)))
    }

    /// How its body ends.
    pub(super) fn body(&self) -> Body {
        match self.length {
            _ if self.chunked => Body::Chunks(Chunks::default()),
            _ if self.status == 204 || self.status == 304 => Body::Counted(0),
            Some(length) => Body::Counted(length),
            None => Body::UntilClosed,
        }
    }
}

/// What is still to come of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Counted(u64),
    Chunks(Chunks),
    UntilClosed,
}

impl Body {
    /// Takes what came; what of it is the body's own goes to `keep`. Returns how many bytes were
    /// taken and whether that was the end.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        keep: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, bool), &'static str> {
        match self {
            Self::Counted(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                keep(bytes.get(..count).unwrap_or_default());
                *left -= count as u64;
                Ok((count, *left == 0))
            }
            Self::Chunks(chunks) => chunks.take(bytes, keep),
            Self::UntilClosed => {
                keep(bytes);
                Ok((bytes.len(), false))
            }
        }
    }
}

/// RFC 9112 §7.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    /// The line that is being read: a chunk's size, or what follows its data.
    line: Vec<u8>,
    left: u64,
    after_data: bool,
    last: bool,
}

impl Chunks {
    fn take(
        &mut self,
        bytes: &[u8],
        keep: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, bool), &'static str> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left > 0 {
                let count = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let (data, after) = rest.split_at(count);
                keep(data);
                self.left -= count as u64;
                self.after_data = self.left == 0;
                rest = after;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(rest);
                return if self.line.len() > 64 {
                    Err("no chunk")
                } else {
                    Ok((bytes.len(), false))
                };
            };
            let (line, after) = rest.split_at(end + 1);
            self.line.extend_from_slice(line);
            rest = after;
            let line = std::mem::take(&mut self.line);
            let text = std::str::from_utf8(&line).unwrap_or("?").trim_end();
            if std::mem::take(&mut self.after_data) {
                if !text.is_empty() {
                    return Err("a chunk longer than it says");
                }
            } else if self.last {
                if text.is_empty() {
                    return Ok((bytes.len() - rest.len(), true));
                }
            } else {
                let size = text.split(';').next().unwrap_or_default();
                self.left = u64::from_str_radix(size, 16).map_err(|_| "a chunk without a size")?;
                self.last = self.left == 0;
            }
        }
        Ok((bytes.len(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_follows() {
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\nconnection: close\r\n\r\n\
            hello";
        let (head, length) = Head::read(text).expect("a head").expect("all of it");
        assert_eq!(text.len() - length, 5);
        assert_eq!((head.status, head.length, head.close), (200, Some(5), true));
        assert_eq!(head.etag.as_deref(), Some("\"a\""));
        for end in 0..length {
            assert_eq!(Head::read(&text[..end]), Ok(None));
        }
        assert!(Head::read(b"SSH-2.0\r\n\r\n").is_err());
        assert!(Head::read(&vec![b'a'; HEAD_MAX + 1]).is_err());
    }

    #[test]
    fn bodies_end_where_they_say_however_they_are_cut() {
        let chunked: &[u8] = b"5\r\nhello\r\n1;x\r\n!\r\n0\r\n\r\nnext";
        for (body, bytes) in
            [(Body::Chunks(Chunks::default()), chunked), (Body::Counted(6), b"hello!next")]
        {
            for step in 1..bytes.len() {
                let (mut body, mut kept, mut taken) = (body.clone(), Vec::new(), 0);
                for piece in bytes.chunks(step) {
                    let mut keep = |data: &[u8]| kept.extend_from_slice(data);
                    let (count, is_end) = body.take(piece, &mut keep).expect("a body");
                    taken += count;
                    if is_end {
                        break;
                    }
                }
                assert_eq!((kept.as_slice(), &bytes[taken..]), (&b"hello!"[..], &b"next"[..]));
            }
        }
        let mut body = Body::Chunks(Chunks::default());
        assert!(body.take(b"x\r\n", &mut |_| {}).is_err());
    }
}
