//! WebSocket frames (RFC 6455 § 5) as a client needs them: unmasked whole frames in, masked ones
//! out.
//!
//! Written apart from tickwire's own codec, so that a mistake in one is not hidden by the other.
//! Fragmented messages and extensions are refused: neither is part of the protocol.

use std::io::{self, Read};

/// The largest payload taken, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 26;
/// What is read from a socket at once: small enough to stay in a core's cache.
const READ_BYTES_MAX: usize = 256 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end, with code and reason.
    Close = 8,
    /// To be answered with a pong of the same payload.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Why bytes are no frame that a server of this protocol may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// FIN is not set, or a continuation.
    #[error("a fragmented message")]
    Fragmented,
    /// A reserved bit without an extension.
    #[error("a reserved bit is set")]
    Reserved,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// A server must not mask.
    #[error("a masked frame from a server")]
    Masked,
    /// Above [`PAYLOAD_BYTES_MAX`].
    #[error("a payload of {0} bytes, above {PAYLOAD_BYTES_MAX}")]
    TooLarge(u64),
}

/// The tail of what one connection sent that is not a whole frame yet.
#[derive(Debug, Default)]
pub struct Carry(Vec<u8>);

impl Carry {
    /// Reads once from `source` into `shared` behind the tail, and returns both together.
    /// `shared` grows as needed and may be used for many connections.
    ///
    /// # Errors
    ///
    /// The source's own, and `UnexpectedEof` where it ended.
    pub fn read<'b>(
        &self,
        source: &mut impl Read,
        shared: &'b mut Vec<u8>,
    ) -> io::Result<&'b mut [u8]> {
        let held = self.0.len();
        if shared.len() < held + READ_BYTES_MAX {
            shared.resize(held + READ_BYTES_MAX, 0);
        }
        shared[..held].copy_from_slice(&self.0);
        match source.read(&mut shared[held..held + READ_BYTES_MAX])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(&mut shared[..held + read]),
        }
    }

    /// Keeps `rest` for the next read.
    pub fn keep(&mut self, rest: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(rest);
    }

    /// How much is kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Hands every whole frame at the head of `bytes` to `each`; returns how many bytes they took.
pub fn each_frame<E: From<FrameError>>(
    bytes: &[u8],
    mut each: impl FnMut(Frame<'_>) -> Result<(), E>,
) -> Result<usize, E> {
    let mut used = 0;
    while let Some((frame, frame_bytes)) = first_frame(&bytes[used..])? {
        used += frame_bytes;
        each(frame)?;
    }
    Ok(used)
}

/// The frame at the head of `bytes` and its length with header; `None` while it is incomplete.
pub fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let opcode = opcode(first)?;
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let (payload_bytes, length_bytes) = match second {
        126 => match rest.first_chunk() {
            Some(&length) => (u64::from(u16::from_be_bytes(length)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&length) => (u64::from_be_bytes(length), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    if payload_bytes > PAYLOAD_BYTES_MAX as u64 {
        return Err(FrameError::TooLarge(payload_bytes));
    }
    let header_bytes = 2 + length_bytes;
    let frame_bytes = header_bytes + payload_bytes as usize;
    Ok(bytes
        .get(header_bytes..frame_bytes)
        .map(|payload| (Frame { opcode, payload }, frame_bytes)))
}

fn opcode(first: u8) -> Result<Opcode, FrameError> {
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    let opcode = first & 0x0f;
    if first & 0x80 == 0 || opcode == 0 {
        return Err(FrameError::Fragmented);
    }
    match opcode {
        1 => Ok(Opcode::Text),
        2 => Ok(Opcode::Binary),
        8 => Ok(Opcode::Close),
        9 => Ok(Opcode::Ping),
        10 => Ok(Opcode::Pong),
        other => Err(FrameError::UnknownOpcode(other)),
    }
}

/// A client's frame.
pub fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    write_masked(&mut frame, opcode, payload);
    frame
}

/// Appends a client's frame. The mask is fixed: it defends proxies against scripts in browsers
/// (RFC 6455 § 10.3), and neither is here.
pub fn write_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    out.push(0x80 | opcode as u8);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 0x7e);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 0x7f);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let from = out.len();
    out.extend_from_slice(payload);
    // In fours, which the compiler turns into wide registers.
    for four in out[from..].chunks_mut(MASK.len()) {
        for (byte, mask) in four.iter_mut().zip(MASK) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payload of a client's frame.
    pub fn unmask(frame: &[u8]) -> Vec<u8> {
        let header_bytes = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let (mask, payload) = frame[header_bytes..].split_at(4);
        let pairs = payload.iter().zip(mask.iter().cycle());
        pairs.map(|(byte, mask)| byte ^ mask).collect()
    }

    /// Gives its bytes in chunks of the given sizes, then as much as is asked for.
    struct Chunks<'a> {
        bytes: &'a [u8],
        sizes: std::vec::IntoIter<usize>,
    }

    impl Read for Chunks<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let size = self
                .sizes
                .next()
                .unwrap_or(usize::MAX)
                .min(into.len())
                .min(self.bytes.len());
            into[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes = &self.bytes[size..];
            Ok(size)
        }
    }

    fn unmasked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode as u8];
        match payload.len() {
            short @ 0..=125 => frame.push(short as u8),
            medium @ 126..=0xffff => {
                frame.push(126);
                frame.extend((medium as u16).to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    fn any_frame() -> impl Strategy<Value = (Opcode, Vec<u8>)> {
        let opcode = prop::sample::select(vec![
            Opcode::Text,
            Opcode::Binary,
            Opcode::Ping,
            Opcode::Pong,
            Opcode::Close,
        ]);
        let bytes = prop_oneof![8 => 0..200_usize, 1 => 65_000..70_000_usize];
        (opcode, bytes, any::<u8>()).prop_map(|(opcode, bytes, fill)| (opcode, vec![fill; bytes]))
    }

    proptest! {
        #[test]
        fn frames_survive_any_chunking(
            frames in prop::collection::vec(any_frame(), 0..20),
            sizes in prop::collection::vec(1..400_usize, 0..200),
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(opcode, payload)| unmasked(*opcode, payload)).collect();
            let mut source = Chunks { bytes: &bytes, sizes: sizes.into_iter() };
            let mut shared = Vec::new();
            let mut carry = Carry::default();
            let mut seen = Vec::new();
            while let Ok(bytes) = carry.read(&mut source, &mut shared) {
                let used = each_frame(bytes, |frame| {
                    seen.push((frame.opcode, frame.payload.to_vec()));
                    Ok::<(), FrameError>(())
                }).unwrap();
                carry.keep(&bytes[used..]);
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(carry.0.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = each_frame(&bytes, |_| Ok::<(), FrameError>(()));
        }
    }

    #[test]
    fn frames_that_no_server_may_send_are_refused() {
        let refused = |bytes: &[u8]| first_frame(bytes).unwrap_err();
        assert_eq!(refused(&[0x01, 0]), FrameError::Fragmented);
        assert_eq!(refused(&[0x80, 0]), FrameError::Fragmented);
        assert_eq!(refused(&[0xc1, 0]), FrameError::Reserved);
        assert_eq!(refused(&[0x83, 0]), FrameError::UnknownOpcode(3));
        assert_eq!(refused(&masked(Opcode::Text, b"hi")), FrameError::Masked);
        assert_eq!(
            refused(&[0x81, 127, 0, 0, 0, 0, 4, 0, 0, 1]),
            FrameError::TooLarge(PAYLOAD_BYTES_MAX as u64 + 1)
        );
    }

    #[test]
    fn a_masked_frame_is_what_the_rfc_shows() {
        // RFC 6455 § 5.7: a single-frame masked text message, "Hello".
        let frame = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(masked(Opcode::Text, b"Hello"), frame);
        assert_eq!(unmask(&frame), b"Hello");
    }
}
