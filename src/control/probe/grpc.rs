//! gRPC's protocol of health, grpc.health.v1: one call, whose messages have one field each.

use super::exchange;
use crate::{net::Stream, spec::HealthCheck};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, header};

/// More than any answer has.
const LONGEST: usize = 1024;

/// The value of `HealthCheckResponse.status` that is good.
const SERVING: u64 = 1;

/// # Errors
/// Why the service does not serve.
pub(super) async fn ask(stream: Stream, authority: &str, service: &str) -> Result<(), String> {
    let request = Request::post(format!("{authority}{}", HealthCheck::GRPC))
        .header(header::USER_AGENT, super::USER_AGENT)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|error| super::no_request(&error))?;
    let message = request_message(service);
    let (answer, status) = exchange(stream, async |sender: SendRequest<Bytes>| {
        let (response, mut stream) = sender.ready().await?.send_request(request, false)?;
        stream.send_data(message, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            answer.extend_from_slice(&data?);
            if answer.len() > LONGEST {
                break;
            }
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = trailers.get("grpc-status").or(head.headers.get("grpc-status")).cloned();
        Ok((answer, status))
    })
    .await?;
    match status.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") => {}
        Some(status) => return Err(format!("the call came to grpc-status {status}")),
        None => return Err("the call has no grpc-status".into()),
    }
    match serving_status(&answer) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(format!("it does not serve: status {status}")),
        None => Err("its answer is no message of grpc.health.v1".into()),
    }
}

/// `HealthCheckRequest { service = 1 }` behind the prefix of a message that is not compressed.
fn request_message(service: &str) -> Bytes {
    let mut field = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        field.push(1 << 3 | 2);
        put_varint(&mut field, service.len() as u64);
        field.extend_from_slice(service.as_bytes());
    }
    // A name in a config file is far shorter than 4 GiB.
    let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
    [&[0][..], &len.to_be_bytes(), &field].concat().into()
}

/// `HealthCheckResponse { status = 1 }`; a field that is not there is 0.
fn serving_status(message: &[u8]) -> Option<u64> {
    let (prefix, mut fields) = message.split_at_checked(5)?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || fields.len() != len {
        return None;
    }
    let mut status = 0;
    while !fields.is_empty() {
        let tag = take_varint(&mut fields)?;
        match tag & 7 {
            0 => {
                let value = take_varint(&mut fields)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            2 => {
                let len = usize::try_from(take_varint(&mut fields)?).ok()?;
                fields = fields.get(len..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(request_message(""), &b"\0\0\0\0\0"[..]);
        assert_eq!(request_message("a.B"), &b"\0\0\0\0\x05\x0a\x03a.B"[..]);
        assert_eq!(request_message(&"x".repeat(200))[..8], b"\0\0\0\0\xcb\x0a\xc8\x01"[..]);
        assert_eq!(serving_status(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving_status(b"\0\0\0\0\x02\x08\x02"), Some(2));
        assert_eq!(serving_status(b"\0\0\0\0\0"), Some(0));
        assert_eq!(serving_status(b"\0\0\0\0\x06\x12\x02ab\x08\x01"), Some(1), "fields to come");
        for wrong in
            [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02\x08", b"\x01\0\0\0\0", b"\0\0\0\0\x01\x08"]
        {
            assert_eq!(serving_status(wrong), None, "{wrong:?}");
        }
    }
}
