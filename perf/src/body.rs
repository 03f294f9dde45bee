//! The body of an HTTP answer as it arrives: in chunks (RFC 9112 § 7.1), or until the connection
//! closes.

/// The largest chunk taken, bytes.
const CHUNK_BYTES_MAX: usize = 1 << 26;

/// A body, read up to some byte.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Everything up to the end of the connection.
    UntilClose,
    /// In chunks.
    Chunked(Place),
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the first digit of a chunk's size.
    Begin,
    /// In the size, of which this much is known.
    Size(usize),
    /// In what may follow the size on its line.
    Extension(usize),
    /// Before the line feed of that line.
    SizeEnd(usize),
    /// Before so many bytes of data.
    Data(usize),
    /// Before the end of line behind the data.
    DataEnd,
    /// Before its line feed.
    DataLineFeed,
    /// Behind the last chunk; trailers say nothing that matters here.
    Over,
}

/// Why bytes are no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A transfer encoding other than `chunked`.
    #[error("the server sends its answer {0:?}")]
    Encoding(String),
    /// No chunk.
    #[error("the server sent what is no chunk: {0:#04x} at {1:?}")]
    NotAChunk(u8, Place),
    /// The last chunk has come.
    #[error("the server ended the stream")]
    Over,
}

impl Body {
    /// The body behind a head with this `Transfer-Encoding`.
    pub fn new(encoding: Option<&[u8]>) -> Result<Self, BodyError> {
        match encoding {
            None => Ok(Self::UntilClose),
            Some(chunked) if chunked.eq_ignore_ascii_case(b"chunked") => {
                Ok(Self::Chunked(Place::Begin))
            }
            Some(other) => {
                let other = String::from_utf8_lossy(other).into_owned();
                Err(BodyError::Encoding(other))
            }
        }
    }

    /// Takes the next bytes of the connection and moves what is content to their front; returns how
    /// much that is.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, BodyError> {
        let Self::Chunked(place) = self else {
            return Ok(bytes.len());
        };
        let (mut read, mut content) = (0, 0);
        while let Some(&byte) = bytes.get(read) {
            if let Place::Data(left) = *place {
                let length = left.min(bytes.len() - read);
                bytes.copy_within(read..read + length, content);
                read += length;
                content += length;
                *place = match left - length {
                    0 => Place::DataEnd,
                    left => Place::Data(left),
                };
            } else {
                *place = place.after(byte)?;
                read += 1;
            }
        }
        Ok(content)
    }

    /// Fails where nothing more will come.
    pub fn check_open(&self) -> Result<(), BodyError> {
        match self {
            Self::Chunked(Place::Over) => Err(BodyError::Over),
            _ => Ok(()),
        }
    }
}

impl Place {
    /// The place behind `byte`, which is no data.
    fn after(self, byte: u8) -> Result<Self, BodyError> {
        let digit = (byte as char).to_digit(16).map(|digit| digit as usize);
        let next = match (self, byte, digit) {
            (Self::Begin, _, Some(digit)) => Some(Self::Size(digit)),
            (Self::Size(size), _, Some(digit)) => {
                Some(Self::Size(size * 16 + digit)).filter(|_| size <= CHUNK_BYTES_MAX / 16)
            }
            (Self::Size(size) | Self::Extension(size), b'\r', _) => Some(Self::SizeEnd(size)),
            (Self::Size(size), b';' | b' ' | b'\t', _) | (Self::Extension(size), _, _) => {
                Some(Self::Extension(size))
            }
            (Self::SizeEnd(0), b'\n', _) | (Self::Over, _, _) => Some(Self::Over),
            (Self::SizeEnd(size), b'\n', _) => Some(Self::Data(size)),
            (Self::DataEnd, b'\r', _) => Some(Self::DataLineFeed),
            (Self::DataLineFeed, b'\n', _) => Some(Self::Begin),
            _ => None,
        };
        next.ok_or(BodyError::NotAChunk(byte, self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content of all `parts`, taken one after the other.
    fn content(body: &mut Body, parts: &[&[u8]]) -> Vec<u8> {
        let mut content = Vec::new();
        for part in parts {
            let mut bytes = part.to_vec();
            let length = body.decode(&mut bytes).unwrap();
            content.extend_from_slice(&bytes[..length]);
        }
        content
    }

    fn chunked() -> Body {
        Body::new(Some(b"Chunked")).unwrap()
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let wire =
            b"5\r\nhello\r\n1;a=\"b\"\r\n,\r\n0B \r\n\r\nworld\r\n0A\r\n0\r\nX: trailer\r\n\r\n";
        // The third chunk holds line ends, and what looks like a size, of its own.
        let expected = b"hello,\r\nworld\r\n0A";
        for cut in 0..=wire.len() {
            let mut body = chunked();
            let (head, tail) = wire.split_at(cut);
            assert_eq!(content(&mut body, &[head, tail]), expected, "{cut}");
            assert_eq!(body.check_open(), Err(BodyError::Over));
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(content(&mut chunked(), &bytes), expected);
    }

    #[test]
    fn a_body_is_open_until_its_last_chunk() {
        let mut body = chunked();
        content(&mut body, &[b"1\r\na\r\n0\r"]);
        assert_eq!(body.check_open(), Ok(()));
        content(&mut body, &[b"\n"]);
        assert_eq!(body.check_open(), Err(BodyError::Over));
    }

    #[test]
    fn without_an_encoding_all_bytes_are_content() {
        let mut body = Body::new(None).unwrap();
        assert_eq!(content(&mut body, &[b"5\r\n", b"he"]), b"5\r\nhe");
        assert_eq!(body.check_open(), Ok(()));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for wire in [
            "\r\n",
            "g\r\n",
            "1\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "fffffff\r\n",
            "ffffffffffffffffffff\r\n",
        ] {
            let mut bytes = wire.as_bytes().to_vec();
            let error = chunked().decode(&mut bytes).unwrap_err();
            assert!(matches!(error, BodyError::NotAChunk(..)), "{wire:?}");
        }
        assert!(Body::new(Some(b"gzip, chunked")).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = bytes;
            let _ = chunked().decode(&mut bytes);
        }
    }
}
