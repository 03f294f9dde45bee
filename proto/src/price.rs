//! Decimal numbers: an integer mantissa and a power of ten, never floating point.
//!
//! A price of `187.23` is mantissa `18723` with exponent `-2`. Prices of one message share one
//! exponent, sizes another, as in Binance's SBE schema: one fixed scale for everything would
//! overflow on token quantities.

use std::fmt;

/// The smallest exponent on the wire: 18 fractional digits.
pub const EXPONENT_MIN: i8 = -18;

/// The mantissa that SBE reserves for "no value" (schema `proto/schema/tickwire.xml`).
pub const NULL_MANTISSA: i64 = i64::MIN;

/// A decimal number, `mantissa × 10^exponent`, with −18 ≤ exponent ≤ 0.
///
/// Equality is of the representation: `1.5` and `1.50` differ here though they are equal in
/// value, because the digits that a source writes are the digits its clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    mantissa: i64,
    exponent: i8,
}

/// Why a text or a pair of numbers is not a [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecimalError {
    /// The text is empty.
    #[error("a decimal needs at least one digit")]
    Empty,
    /// A byte that has no place in a plain decimal; exponent forms, `NaN`, `Infinity`, signs
    /// other than a leading `-` and missing digits around the point all end here.
    #[error("not a plain decimal at byte {at}")]
    Malformed {
        /// Offset of the byte, from 0.
        at: usize,
    },
    /// More than 18 digits behind the point that are not trailing zeros.
    #[error("more than 18 digits behind the decimal point")]
    TooManyDigits,
    /// The mantissa does not fit 64 bits.
    #[error("too large for a 64-bit mantissa")]
    Overflow,
    /// The exponent lies outside −18…0, or the mantissa is the one reserved for null.
    #[error("mantissa or exponent outside the range of the wire")]
    OutOfRange,
}

impl Decimal {
    /// The number zero.
    pub const ZERO: Self = Self {
        mantissa: 0,
        exponent: 0,
    };

    /// Builds a decimal from its parts.
    ///
    /// # Errors
    ///
    /// [`DecimalError::OutOfRange`] where the exponent is outside −18…0 or the mantissa is
    /// [`NULL_MANTISSA`].
    pub fn new(mantissa: i64, exponent: i8) -> Result<Self, DecimalError> {
        if mantissa == NULL_MANTISSA || !(EXPONENT_MIN..=0).contains(&exponent) {
            return Err(DecimalError::OutOfRange);
        }
        Ok(Self { mantissa, exponent })
    }

    /// Reads a plain decimal: an optional `-`, digits, and optionally a point with digits.
    ///
    /// Leading zeros are allowed. Trailing zeros are kept as written; only where they push the
    /// number past 18 fractional digits or 64 bits are they dropped, since the value is the same.
    ///
    /// # Errors
    ///
    /// See [`DecimalError`]; nothing is ever rounded.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        match Self::parse_short(text) {
            Some(decimal) => Ok(decimal),
            None => Self::parse_any(text),
        }
    }

    /// Reads what nearly all prices and sizes are, in one pass: at most 18 bytes behind the sign
    /// cannot overflow. `None` for the rest, good and bad.
    fn parse_short(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, digits) = match bytes.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, bytes),
        };
        if !(1..=18).contains(&digits.len()) {
            return None;
        }
        let mut magnitude = 0;
        let mut whole_bytes = None;
        for (at, &byte) in digits.iter().enumerate() {
            if byte.is_ascii_digit() {
                magnitude = magnitude * 10 + i64::from(byte - b'0');
            } else if byte == b'.' && whole_bytes.is_none() && (1..digits.len() - 1).contains(&at) {
                whole_bytes = Some(at);
            } else {
                return None;
            }
        }
        let places = whole_bytes.map_or(0, |whole_bytes| digits.len() - whole_bytes - 1);
        Some(Self {
            mantissa: if negative { -magnitude } else { magnitude },
            exponent: -(places as i8),
        })
    }

    fn parse_any(text: &str) -> Result<Self, DecimalError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let sign_bytes = usize::from(negative);
        if digits.is_empty() {
            return Err(DecimalError::Empty);
        }
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(DecimalError::Malformed { at: text.len() - 1 }),
            Some((whole, fraction)) => (whole, fraction),
            None => (digits, ""),
        };
        if whole.is_empty() {
            return Err(DecimalError::Malformed { at: sign_bytes });
        }
        for (part, offset) in [(whole, 0), (fraction, whole.len() + 1)] {
            if let Some(at) = part.bytes().position(|byte| !byte.is_ascii_digit()) {
                return Err(DecimalError::Malformed {
                    at: sign_bytes + offset + at,
                });
            }
        }
        let exact = Self::from_digits(negative, whole, fraction);
        if exact.is_ok() {
            return exact;
        }
        let trimmed = fraction.trim_end_matches('0');
        if trimmed.len() == fraction.len() {
            return exact;
        }
        Self::from_digits(negative, whole, trimmed)
    }

    fn from_digits(negative: bool, whole: &str, fraction: &str) -> Result<Self, DecimalError> {
        if fraction.len() > usize::from(EXPONENT_MIN.unsigned_abs()) {
            return Err(DecimalError::TooManyDigits);
        }
        let mut magnitude: u64 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            magnitude = magnitude
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .ok_or(DecimalError::Overflow)?;
        }
        let mantissa = i64::try_from(magnitude).map_err(|_| DecimalError::Overflow)?;
        Ok(Self {
            mantissa: if negative { -mantissa } else { mantissa },
            exponent: -(fraction.len() as i8),
        })
    }

    /// The integer part of the pair.
    pub fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// The power of ten, −18…0.
    pub fn exponent(self) -> i8 {
        self.exponent
    }

    /// Brings two decimals to one exponent, the finer of the two.
    ///
    /// Trailing zeros give way where the finer exponent would overflow.
    ///
    /// # Errors
    ///
    /// [`DecimalError::Overflow`] where no common exponent holds both values.
    pub fn align(self, other: Self) -> Result<(i64, i64, i8), DecimalError> {
        let at = |exponent: i8| Some((self.rescale(exponent)?, other.rescale(exponent)?, exponent));
        at(self.exponent.min(other.exponent))
            .or_else(|| at(self.trim().exponent.min(other.trim().exponent)))
            .ok_or(DecimalError::Overflow)
    }

    /// The mantissa of the same value at `exponent`, or `None` where it is not representable.
    fn rescale(self, exponent: i8) -> Option<i64> {
        if exponent <= self.exponent {
            let factor = 10i64.checked_pow(u32::from(self.exponent.abs_diff(exponent)))?;
            return self.mantissa.checked_mul(factor);
        }
        let trimmed = self.trim();
        (trimmed.exponent >= exponent)
            .then(|| trimmed.rescale(exponent))
            .flatten()
    }

    /// The same value with the fewest digits behind the point.
    #[must_use]
    pub fn trim(self) -> Self {
        let mut trimmed = self;
        while trimmed.exponent < 0 && trimmed.mantissa % 10 == 0 {
            trimmed.mantissa /= 10;
            trimmed.exponent += 1;
        }
        trimmed
    }

    /// Appends the text to `out`, with exactly `-exponent` digits behind the point.
    pub fn write_to(self, out: &mut Vec<u8>) {
        let mut text = [b'0'; TEXT_BYTES];
        let start = self.write_before_end(&mut text);
        out.extend_from_slice(&text[start..]);
    }

    /// Writes the text at the end of `text`, which holds zeros; where it starts.
    fn write_before_end(self, text: &mut [u8; TEXT_BYTES]) -> usize {
        let places = usize::from(self.exponent.unsigned_abs());
        let mut whole = self.mantissa.unsigned_abs();
        let mut start = TEXT_BYTES;
        if places > 0 {
            let unit = POWERS_OF_TEN[places];
            write_digits(whole % unit, text, TEXT_BYTES);
            whole /= unit;
            start -= places + 1;
            text[start] = b'.';
        }
        // A whole of 0 keeps one of the zeros that are there.
        start = write_digits(whole, text, start).min(start - 1);
        if self.mantissa < 0 {
            start -= 1;
            text[start] = b'-';
        }
        start
    }
}

/// 19 digits of a mantissa, or 18 of a fraction with its leading zero; the point; the sign; and
/// up to a multiple of 8.
const TEXT_BYTES: usize = 24;

/// 10⁰…10¹⁸, by their exponent.
const POWERS_OF_TEN: [u64; 19] = {
    let mut powers = [1; 19];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// `00`…`99`: a division yields two digits, which halves the longest chain of operations per tick.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Writes the digits of `number`, none for 0, before `end`; where they start.
fn write_digits(mut number: u64, text: &mut [u8; TEXT_BYTES], end: usize) -> usize {
    let mut start = end;
    while number >= 10 {
        start -= 2;
        text[start..start + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 {
        start -= 1;
        text[start] = b'0' + number as u8;
    }
    start
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; TEXT_BYTES];
        let start = self.write_before_end(&mut text);
        // Digits, a point and a sign are ASCII, so the fallback is never taken.
        f.write_str(std::str::from_utf8(&text[start..]).unwrap_or_default())
    }
}

impl std::str::FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_come_back_as_written() {
        for text in [
            "0",
            "187.23",
            "0.003100",
            "-0.5",
            "-37.63",
            "0.00",
            "-0.05",
            "10",
            "99.99",
            "-9223372036854775807",
            "-9.223372036854775807",
            "9223372036854775807",
            "0.000000000000000001",
            "9.223372036854775807",
            "100",
        ] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_texts_name_the_byte() {
        for (text, at) in [
            ("1e5", 1),
            ("NaN", 0),
            ("+1", 0),
            (".5", 0),
            ("5.", 1),
            ("1.2.3", 3),
            ("-.5", 1),
            ("1,5", 1),
            ("Infinity", 0),
            (" 1", 0),
            ("--1", 1),
            ("0x10", 1),
            ("1.5E3", 3),
            ("１", 0),
        ] {
            assert_eq!(
                Decimal::parse(text),
                Err(DecimalError::Malformed { at }),
                "{text}"
            );
        }
        assert_eq!(Decimal::parse(""), Err(DecimalError::Empty));
        assert_eq!(Decimal::parse("-"), Err(DecimalError::Empty));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_rounded() {
        assert_eq!(
            Decimal::parse("9223372036854775808"),
            Err(DecimalError::Overflow)
        );
        assert_eq!(
            Decimal::parse("0.0000000000000000001"),
            Err(DecimalError::TooManyDigits)
        );
        assert_eq!(
            Decimal::parse("-9223372036854775808"),
            Err(DecimalError::Overflow)
        );
        assert_eq!(
            Decimal::new(NULL_MANTISSA, 0),
            Err(DecimalError::OutOfRange)
        );
        assert_eq!(Decimal::new(1, 1), Err(DecimalError::OutOfRange));
        assert_eq!(Decimal::new(1, -19), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn zeros_that_do_not_fit_are_dropped_since_the_value_stays() {
        assert_eq!(
            Decimal::parse("1.50000000000000000000")
                .unwrap()
                .to_string(),
            "1.5"
        );
        assert_eq!(
            Decimal::parse("9223372036854775807.0").unwrap().to_string(),
            "9223372036854775807"
        );
    }

    #[test]
    fn two_prices_share_the_finer_exponent() {
        let (bid, ask) = (
            Decimal::parse("86.7").unwrap(),
            Decimal::parse("86.728").unwrap(),
        );
        assert_eq!(bid.align(ask), Ok((86_700, 86_728, -3)));
        let large = Decimal::parse("9000000000000000000").unwrap();
        assert_eq!(
            large.align(Decimal::parse("1.0").unwrap()),
            Ok((9_000_000_000_000_000_000, 1, 0))
        );
        assert_eq!(
            large.align(Decimal::parse("1.5").unwrap()),
            Err(DecimalError::Overflow)
        );
    }

    proptest! {
        #[test]
        fn every_decimal_survives_its_own_text(mantissa in (i64::MIN + 1)..=i64::MAX, exponent in EXPONENT_MIN..=0) {
            let decimal = Decimal::new(mantissa, exponent).unwrap();
            prop_assert_eq!(Decimal::parse(&decimal.to_string()), Ok(decimal));
        }

        #[test]
        fn the_short_way_reads_as_the_long_one(text in "-?[0-9.x]{0,20}") {
            if let Some(decimal) = Decimal::parse_short(&text) {
                prop_assert_eq!(Decimal::parse_any(&text), Ok(decimal));
            } else {
                let digits = text.trim_start_matches('-').len();
                prop_assert!(digits > 18 || Decimal::parse_any(&text).is_err(), "{text}");
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
            let _ = Decimal::parse(&text);
        }

        #[test]
        fn aligning_keeps_both_values(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000, x in -9i8..=0, y in -9i8..=0) {
            let (left, right) = (Decimal::new(a, x).unwrap(), Decimal::new(b, y).unwrap());
            let (l, r, exponent) = left.align(right).unwrap();
            prop_assert_eq!(Decimal::new(l, exponent).unwrap().trim(), left.trim());
            prop_assert_eq!(Decimal::new(r, exponent).unwrap().trim(), right.trim());
        }
    }
}
