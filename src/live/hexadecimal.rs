//! Numbers as hexadecimal digits and back, sixteen at once: ids of requests, traces and spans are written for every
//! request.

const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The digits of `bits`, in lower case.
pub fn hexadecimal(bits: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let (high, low) = digits.split_at_mut(8);
    high.copy_from_slice(&eight((bits >> 32) as u32));
    low.copy_from_slice(&eight(bits as u32));
    digits
}

/// The digits of an id of twice that length.
pub fn hexadecimal_id(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    let (high, low) = digits.split_at_mut(16);
    high.copy_from_slice(&hexadecimal((id >> 64) as u64));
    low.copy_from_slice(&hexadecimal(id as u64));
    digits
}

/// The id that was written as these digits. Of anything else it makes some number.
pub fn hexadecimal_back(digits: &[u8; 32]) -> u128 {
    let eights = digits.as_chunks::<8>().0.iter();
    eights.fold(0, |id, eight| id << 32 | u128::from(number_of_eight(u64::from_be_bytes(*eight))))
}

/// The number that these digits are. `None` if they are something else, or in upper case.
pub fn from_hexadecimal(digits: &[u8; 16]) -> Option<u64> {
    let half = |from: usize| {
        let eight = digits.get(from..from + 8)?.try_into().ok()?;
        Some(u64::from(number_of_eight(u64::from_be_bytes(eight))))
    };
    let number = half(0)? << 32 | half(8)?;
    (hexadecimal(number) == *digits).then_some(number)
}

/// The same of an id.
pub fn from_hexadecimal_id(digits: &[u8; 32]) -> Option<u128> {
    let id = hexadecimal_back(digits);
    (hexadecimal_id(id) == *digits).then_some(id)
}

/// All at once: each nibble gets a byte, and those above 9 what is missing to a letter.
fn eight(half: u32) -> [u8; 8] {
    let mut nibbles = u64::from(half);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & LOW;
    let above_nine = (nibbles + ONES * 6) >> 4 & ONES;
    let digits = nibbles + ONES * u64::from(b'0') + above_nine * u64::from(b'a' - b'9' - 1);
    digits.to_be_bytes()
}

/// The way back. Letters have bit 6, which no digit has. Of anything else it makes some number.
fn number_of_eight(digits: u64) -> u32 {
    let mut nibbles = (digits & LOW).wrapping_add((digits >> 6 & ONES) * 9) & LOW;
    nibbles = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_ffff_0000_ffff;
    (nibbles | nibbles >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_bytes_are_no_number() {
        let good = *b"0123456789abcdef";
        assert_eq!(from_hexadecimal(&good), Some(0x0123_4567_89ab_cdef));
        for place in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut digits = good;
                digits[place] = byte;
                let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(from_hexadecimal(&digits).is_some(), is_digit, "{byte:#x} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_number(id: u128) {
            let digits = hexadecimal_id(id);
            prop_assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{id:032x}"));
            prop_assert_eq!(from_hexadecimal_id(&digits), Some(id));
            prop_assert_eq!(hexadecimal_back(&digits), id);
        }
    }
}
