//! Cutting foreign text to a bound.

/// The longest prefix of `text` of at most `bytes_max` bytes that ends at a character.
pub fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_kept_whole() {
        assert_eq!(prefix("abc", 9), "abc");
        assert_eq!(prefix("abc", 2), "ab");
        assert_eq!(prefix("aéé", 2), "a");
        assert_eq!(prefix("é", 0), "");
    }
}
