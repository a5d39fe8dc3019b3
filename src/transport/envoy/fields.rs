//! A protobuf message read in place, field by field: no copy, no tree, no UTF-8 check of what nobody looks at.

/// The fields of an encoded message, in the order in which they were sent: number and content. What is not delimited by
/// a length is passed over.
///
/// After a fault there is nothing more.
pub struct Fields<'a>(&'a [u8]);

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Fields<'a> {
    pub const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field that is delimited by a length; `None` at the end.
    #[inline]
    fn delimited(&mut self) -> Option<Result<(u64, &'a [u8]), Malformed>> {
        while !self.0.is_empty() {
            match self.field() {
                Some((_, None)) => {}
                Some((number, Some(content))) => return Some(Ok((number, content))),
                None => {
                    self.0 = &[];
                    return Some(Err(Malformed));
                }
            }
        }
        None
    }

    /// One field, and its content where it is delimited by a length. The last three bits of a key say how it is written.
    #[inline]
    fn field(&mut self) -> Option<(u64, Option<&'a [u8]>)> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => self.varint().map(|_| None)?,
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            _ => return None,
        };
        Some((key >> 3, content))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        if let [byte @ ..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some(u64::from(*byte));
        }
        prost::encoding::decode_varint(&mut self.0).ok()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8]), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.delimited()
    }
}
