//! The few messages of tickwire's protocol that are understood, by scanning for what they hold.

/// The tick objects of a publisher's message, one or an array of them. None of them holds a brace.
pub fn objects(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|&byte| byte == b'{')?;
        let bytes = 1 + rest[begin..].iter().position(|&byte| byte == b'}')?;
        let object = &rest[begin..begin + bytes];
        rest = &rest[begin + bytes..];
        Some(object)
    })
}

/// The symbol of a tick object.
pub fn symbol(object: &[u8]) -> Option<&[u8]> {
    let value = after(object, b"\"symbol\":\"")?;
    let end = value.iter().position(|&byte| byte == b'"')?;
    Some(&value[..end])
}

/// The symbols of a `subscribe`; `None` if it is something else.
pub fn subscribe(message: &[u8]) -> Option<Vec<&[u8]>> {
    after(message, b"\"op\":\"subscribe\"")?;
    let list = after(message, b"\"symbols\":[")?;
    let end = list.iter().position(|&byte| byte == b']')?;
    // Every second piece between quotes is a symbol; the others are commas.
    let pieces = list[..end].split(|&byte| byte == b'"');
    Some(pieces.skip(1).step_by(2).collect())
}

/// Whether it is a `flush`.
pub fn is_flush(message: &[u8]) -> bool {
    after(message, b"\"op\":\"flush\"").is_some()
}

/// The `id` of an operation; 0 if there is none.
pub fn id(message: &[u8]) -> u64 {
    let digits = after(message, b"\"id\":").unwrap_or_default();
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |id, digit| {
        id.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    })
}

fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(mark.len()).position(|found| found == mark)?;
    Some(&bytes[at + mark.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = br#"{"type":"trade","symbol":"A","seq":1}"#;
    const B: &[u8] = br#"{"type":"trade","symbol":"BB","seq":1}"#;

    #[test]
    fn an_array_is_cut_into_its_objects() {
        let array = [b"[", A, b",", B, b"]"].concat();
        assert_eq!(objects(&array).collect::<Vec<_>>(), [A, B]);
        assert_eq!(objects(A).collect::<Vec<_>>(), [A]);
        assert_eq!(objects(b"[]").count(), 0);
        assert_eq!((symbol(A), symbol(B)), (Some(&b"A"[..]), Some(&b"BB"[..])));
    }

    #[test]
    fn operations_are_told_apart() {
        let request = br#"{"op":"subscribe","id":17,"symbols":["A","BB"],"snapshot":false}"#;
        assert_eq!(subscribe(request), Some(vec![&b"A"[..], b"BB"]));
        assert_eq!(id(request), 17);
        assert!(!is_flush(request));
        assert!(is_flush(br#"{"op":"flush","id":2}"#));
        assert_eq!(
            subscribe(br#"{"op":"subscribe","symbols":[]}"#),
            Some(vec![])
        );
        assert_eq!(subscribe(A), None);
    }
}
