//! Values in AMF0, as commands and metadata carry them. Fuzz target: `rtmp_amf`.
//!
//! Read with bounds on depth and number, so that no bytes of a stranger nest without end; what we
//! write ourselves is written by `reply`. Objects of AMF3 are not read: whatever an encoder
//! marks as AMF3 is AMF0 after a zero.

/// How deep values may lie in each other. Metadata of several tracks has a depth of 4.
const DEPTH_MAX: usize = 8;
/// How many values one message may have.
const VALUES_MAX: usize = 1024;

/// Why bytes are no values that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// They end within a value.
    #[error("a value that is cut short")]
    Short,
    /// A kind of value that there is not.
    #[error("a value of an unknown kind, {0}")]
    Kind(u8),
    /// More than `DEPTH_MAX` values in each other.
    #[error("values that lie more than {DEPTH_MAX} deep in each other")]
    Depth,
    /// More than `VALUES_MAX`.
    #[error("more than {VALUES_MAX} values")]
    Number,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A text; what is no UTF-8 in it has been replaced.
    Text(String),
    /// Names and values, in their order.
    Object(Vec<(String, Value)>),
    /// Values in their order.
    List(Vec<Value>),
    /// Nothing, or something that says nothing to us: a date, a reference.
    Null,
}

impl Value {
    /// What an object has under a name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub const fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Reads all values of a message.
///
/// # Errors
///
/// [`AmfError`] says what is wrong with them.
pub fn read(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { rest: bytes, values: 0 };
    let mut values = Vec::new();
    while let Some(&kind) = reader.rest.first() {
        if kind == marker::AMF3 {
            break;
        }
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// The markers of AMF 0 §2.1.
mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const REFERENCE: u8 = 7;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
    pub(super) const AMF3: u8 = 17;
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(AmfError::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], AmfError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(AmfError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let len = u16::from_be_bytes(self.bytes()?);
        Ok(String::from_utf8_lossy(self.slice(len.into())?).into_owned())
    }

    fn long_text(&mut self) -> Result<String, AmfError> {
        let len = u32::from_be_bytes(self.bytes()?);
        Ok(String::from_utf8_lossy(self.slice(len as usize)?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth >= DEPTH_MAX {
            return Err(AmfError::Depth);
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(AmfError::Number);
        }
        let [kind] = self.bytes()?;
        Ok(match kind {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.bytes()?)),
            marker::BOOLEAN => Value::Boolean(self.bytes::<1>()? != [0]),
            marker::STRING => Value::Text(self.short_text()?),
            marker::LONG_STRING | marker::XML => Value::Text(self.long_text()?),
            marker::OBJECT => Value::Object(self.members(depth)?),
            marker::ECMA_ARRAY => {
                // The number of members is a hint; the end is marked as that of an object.
                self.bytes::<4>()?;
                Value::Object(self.members(depth)?)
            }
            marker::TYPED_OBJECT => {
                self.short_text()?;
                Value::Object(self.members(depth)?)
            }
            marker::STRICT_ARRAY => {
                let len = u32::from_be_bytes(self.bytes()?);
                let items = (0..len).map(|_| self.value(depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            marker::DATE => {
                self.bytes::<10>()?;
                Value::Null
            }
            marker::REFERENCE => {
                self.bytes::<2>()?;
                Value::Null
            }
            marker::NULL | marker::UNDEFINED | marker::UNSUPPORTED => Value::Null,
            kind => return Err(AmfError::Kind(kind)),
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut members = Vec::new();
        loop {
            let name = self.short_text()?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.bytes::<1>()?;
                return Ok(members);
            }
            members.push((name, self.value(depth + 1)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&[0, text.len() as u8], text.as_bytes()].concat()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let number = [&[0][..], &1.5_f64.to_be_bytes()].concat();
        let object = [&[3][..], &text("a"), &[5], &text("b"), &number, &[0, 0, 9]].concat();
        let read_object = Value::Object(vec![
            ("a".to_owned(), Value::Null),
            ("b".to_owned(), Value::Number(1.5)),
        ]);
        for (bytes, value) in [
            (number.clone(), Value::Number(1.5)),
            (vec![1, 1], Value::Boolean(true)),
            ([&[2][..], &text("live")].concat(), Value::Text("live".to_owned())),
            (vec![12, 0, 0, 0, 1, b'x'], Value::Text("x".to_owned())),
            (object.clone(), read_object.clone()),
            ([&[8, 0, 0, 0, 9][..], &object[1..]].concat(), read_object.clone()),
            ([&[16][..], &text("Class"), &object[1..]].concat(), read_object),
            (vec![10, 0, 0, 0, 2, 5, 6], Value::List(vec![Value::Null; 2])),
            (vec![11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Value::Null),
            (vec![7, 0, 1], Value::Null),
        ] {
            assert_eq!(read(&bytes), Ok(vec![value]), "{bytes:?}");
        }
        assert_eq!(read(&[5, 17, 1, 2, 3]), Ok(vec![Value::Null]), "AMF3 ends what is read");
    }

    #[test]
    fn members_are_found_by_their_names() {
        let object = Value::Object(vec![("app".to_owned(), Value::Text("live".to_owned()))]);
        assert_eq!(object.get("app").and_then(Value::text), Some("live"));
        assert_eq!(object.get("tcUrl"), None);
        assert_eq!(Value::Null.get("app"), None);
    }

    #[test]
    fn values_nest_eight_deep_and_no_deeper() {
        let nested = |depth: usize| [[10, 0, 0, 0, 1].repeat(depth), vec![5]].concat();
        assert!(read(&nested(7)).is_ok());
        assert_eq!(read(&nested(8)), Err(AmfError::Depth));
        assert_eq!(read(&nested(13_000)), Err(AmfError::Depth));
    }

    #[test]
    fn a_list_of_millions_is_no_list_of_millions() {
        assert_eq!(read(&[10, 0xff, 0xff, 0xff, 0xff, 5]), Err(AmfError::Short));
        let many = [vec![10, 0xff, 0xff, 0xff, 0xff], vec![5; 60_000]].concat();
        assert_eq!(read(&many), Err(AmfError::Number));
        assert_eq!(read(&vec![5; 1025]), Err(AmfError::Number));
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_refused() {
        for bytes in
            [&[0, 1][..], &[2, 0, 5, b'a'], &[3, 0, 1, b'a'], &[12, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(read(bytes), Err(AmfError::Short), "{bytes:?}");
        }
        assert_eq!(read(&[4]), Err(AmfError::Kind(4)));
    }
}
