//! Where a message ends: RFC 9112 section 6, for both directions and both engines. Whatever two readers
//! could take differently is refused here, before anything of it is sent on.

#[cfg(test)]
mod tests;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Bytes; 0: there is none.
    Exact(u64),
    Chunked,
    /// Responses only: up to the end of the connection.
    UntilClose,
}

/// A message that readers could disagree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// What a head says about its body, line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    length: Option<u64>,
    /// There is one line, and it says so as this proxy would.
    plain: bool,
    coded: bool,
    ambiguous: bool,
}

impl Framing {
    /// A line of `Content-Length`. The same number again, also in a list, is the same number (section 6.3,
    /// rule 5).
    pub(super) fn content_length(&mut self, value: &[u8]) {
        if self.length.is_none()
            && let Some(length) = decimal(value)
        {
            self.plain = value.len() == 1 || value[0] != b'0';
            self.length = Some(length);
            return;
        }
        self.plain = false;
        for number in value.split(|byte| *byte == b',') {
            match decimal(number.trim_ascii()) {
                Some(length) if self.length.is_none_or(|known| known == length) => {
                    self.length = Some(length);
                }
                _ => self.ambiguous = true,
            }
        }
    }

    /// A line of `Transfer-Encoding`. `chunked` is the only coding that every reader knows, and once is
    /// enough (section 7).
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) {
        let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        self.ambiguous |= !is_chunked || self.coded;
        self.coded = true;
    }

    /// The value of `Content-Length`, if there is one.
    pub(super) fn declared(&self) -> Option<u64> {
        self.length
    }

    /// The one line of `Content-Length` can be passed on as it is.
    pub(super) fn is_plainly_declared(&self) -> bool {
        self.plain && self.length.is_some()
    }

    /// Of a request of HTTP/1.`minor`.
    ///
    /// # Errors
    /// When the fields contradict each other or themselves, or HTTP/1.0 uses a transfer coding (section 6.1).
    pub(super) fn of_request(&self, minor: u8) -> Result<Length, Ambiguous> {
        self.check(minor)?;
        Ok(match self.length {
            _ if self.coded => Length::Chunked,
            Some(length) => Length::Exact(length),
            // Section 6.3, rule 7: a request without either has no body.
            None => Length::Exact(0),
        })
    }

    /// Of a final response of HTTP/1.`minor` to a request that was a HEAD (`to_head`) or not. 1xx have no body
    /// and are no final response, and this proxy sends no CONNECT.
    ///
    /// # Errors
    /// As [`Framing::of_request`].
    pub(super) fn of_response(
        &self,
        minor: u8,
        status: u16,
        to_head: bool,
    ) -> Result<Length, Ambiguous> {
        self.check(minor)?;
        Ok(match self.length {
            // Section 6.3, rule 1.
            _ if to_head || matches!(status, 204 | 304) => Length::Exact(0),
            _ if self.coded => Length::Chunked,
            Some(length) => Length::Exact(length),
            // Section 6.3, rule 8.
            None => Length::UntilClose,
        })
    }

    fn check(&self, minor: u8) -> Result<(), Ambiguous> {
        if self.ambiguous || (self.coded && (self.length.is_some() || minor == 0)) {
            return Err(Ambiguous);
        }
        Ok(())
    }
}

/// 1*DIGIT, no more than a u64 (RFC 9110 section 8.6).
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(number)
}
