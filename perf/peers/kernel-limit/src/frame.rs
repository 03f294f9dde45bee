//! WebSocket frames (RFC 6455, section 5.2).

/// Largest payload that a client may send, bytes.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;

/// A whole frame of a client.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    /// Whether it is a text message; others are of no interest here.
    pub is_text: bool,
    /// Unmasked.
    pub payload: &'a [u8],
    /// Bytes of the frame with its header.
    pub bytes: usize,
}

/// What a client sent is no frame that this server takes.
#[derive(Debug, PartialEq)]
pub struct BadFrame;

/// Takes the frame that `input` begins with, and unmasks it there; `None` if it is not whole yet.
///
/// # Errors
///
/// If it is fragmented, unmasked or too large.
pub fn take(input: &mut [u8]) -> Result<Option<Frame<'_>>, BadFrame> {
    let [first, second, rest @ ..] = &*input else {
        return Ok(None);
    };
    if first & FIN == 0 || second & MASKED == 0 {
        return Err(BadFrame);
    }
    let is_text = first & 0xf == TEXT;
    let short = second & !MASKED;
    let (length, header_bytes) = match short {
        126 => (
            rest.first_chunk()
                .map(|bytes| u64::from(u16::from_be_bytes(*bytes))),
            4,
        ),
        127 => (
            rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
            10,
        ),
        _ => (Some(u64::from(short)), 2),
    };
    let Some(payload_bytes) = length else {
        return Ok(None);
    };
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(BadFrame);
    }
    let begin = header_bytes + 4;
    let bytes = begin + payload_bytes as usize;
    let Some(frame) = input.get_mut(..bytes) else {
        return Ok(None);
    };
    let (header, payload) = frame.split_at_mut(begin);
    let mask = &header[header_bytes..];
    for quad in payload.chunks_mut(4) {
        quad.iter_mut()
            .zip(mask)
            .for_each(|(byte, key)| *byte ^= key);
    }
    Ok(Some(Frame {
        is_text,
        payload,
        bytes,
    }))
}

/// Appends an unfragmented text frame.
pub fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(FIN | TEXT);
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(length as u8),
        Ok(length) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(payload: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        write_text(&mut plain, payload);
        let header_bytes = plain.len() - payload.len();
        let mut frame = plain[..header_bytes].to_vec();
        frame[1] |= MASKED;
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    #[test]
    fn frames_of_every_length_are_read_once_they_are_whole() {
        for length in [0, 1, 3, 4, 125, 126, 127, 5000, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut frame = masked(&payload);
            let whole = frame.len();
            assert_eq!(take(&mut frame[..whole - 1]), Ok(None));
            frame.extend_from_slice(b"next");
            let taken = take(&mut frame).unwrap().unwrap();
            assert_eq!((taken.bytes, taken.payload), (whole, &payload[..]));
            assert!(taken.is_text);
        }
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        assert_eq!(take(&mut [0x81, 0]), Err(BadFrame), "not masked");
        assert_eq!(take(&mut [0x01, 0x80]), Err(BadFrame), "fragmented");
        let mut large = [0xff; 10];
        large[0] = 0x81;
        assert_eq!(take(&mut large), Err(BadFrame), "too large");
    }
}
