//! Writing one JSON object, field by field, in the order of the calls.

use std::{fmt::Display, io::Write as _};

/// An object that is open in `out`; [`Object::end`] closes it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object without fields.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Opens a message from the engine: `{"type":"…"`.
    pub(super) fn reply(out: &'a mut Vec<u8>, kind: &str) -> Self {
        Self::begin(out).plain("type", kind)
    }

    /// Opens a request: `{"op":"…"`.
    pub(super) fn request(out: &'a mut Vec<u8>, op: &str) -> Self {
        Self::begin(out).plain("op", op)
    }

    /// A field whose value `write` appends.
    pub(super) fn field(mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        plain(self.out, name);
        self.out.push(b':');
        write(self.out);
        self
    }

    /// A field with an integer.
    pub(super) fn integer(self, name: &str, number: impl Into<u64>) -> Self {
        self.field(name, |out| integer(out, number.into()))
    }

    /// A field with an integer, or no field.
    pub(super) fn maybe_integer(self, name: &str, number: Option<impl Into<u64>>) -> Self {
        match number {
            Some(number) => self.integer(name, number),
            None => self,
        }
    }

    /// A field with an integer or `null`.
    pub(super) fn nullable_integer(self, name: &str, number: Option<u64>) -> Self {
        self.field(name, |out| match number {
            Some(number) => integer(out, number),
            None => out.extend_from_slice(b"null"),
        })
    }

    /// A field with `true` or `false`.
    pub(super) fn flag(self, name: &str, flag: bool) -> Self {
        self.field(name, |out| {
            out.extend_from_slice(if flag { b"true" } else { b"false" });
        })
    }

    /// A field with a text from an alphabet that JSON does not escape: symbols, cursors, names.
    pub(super) fn plain(self, name: &str, text: impl Display) -> Self {
        self.field(name, |out| plain(out, text))
    }

    /// A field with any text.
    pub(super) fn text(self, name: &str, text: &str) -> Self {
        self.field(name, |out| escaped(out, text))
    }

    /// A field with an array whose items `write` appends.
    pub(super) fn list<T>(
        self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Vec<u8>, T),
    ) -> Self {
        self.field(name, |out| list(out, items, write))
    }

    /// A field with an array of texts from an alphabet that JSON does not escape.
    pub(super) fn plain_list<T: Display>(
        self,
        name: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        self.list(name, items, |out, item| plain(out, item))
    }

    /// Closes the object.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends an integer in decimal.
pub(super) fn integer(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a string that needs no escaping.
pub(super) fn plain(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "\"{text}\"").expect("a Vec takes every byte");
}

/// Appends a string, escaped (RFC 8259 § 7).
pub(super) fn escaped(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text)
        .expect("a Vec takes every byte, and a str is always a JSON string");
}

/// Appends an array.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}
