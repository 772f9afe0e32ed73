//! The PROXY protocol once more, from HAProxy's proxy-protocol.txt alone, byte by byte: what it says of a connection, or
//! that it says nothing that may be believed.

use crossfade::{
    net::proxy_protocol::{Announced, announcing, parse},
    spec::ProxyVersion,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] =
    [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

/// A whole header: both readers see the same in it, and what one tells of a client the other writes as it was.
pub fn check(input: &[u8]) {
    compare(input);
    let mut repaired = input.to_vec();
    if repair(&mut repaired) {
        compare(&repaired);
    }
}

fn compare(input: &[u8]) {
    let read = parse(input);
    let known = if input.starts_with(&SIGNATURE) { version_2(input) } else { version_1(input) };
    assert_eq!(read, known);
    let Some(Announced::Client { source, destination }) = read else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = announcing(version, source, destination);
        let (ip, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let Some(Announced::Client { source: again, destination: to_again }) = parse(&header)
        else {
            panic!("what is written is not read: {header:?}");
        };
        assert_eq!((again.ip().to_canonical(), again.port()), (ip, source.port()));
        assert_eq!((to_again.ip().to_canonical(), to_again.port()), (to, destination.port()));
    }
}

/// Section 2.1.
fn version_1(line: &[u8]) -> Option<Announced> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&[u8]> = line.as_bytes().split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"PROXY", b"UNKNOWN", ..] => Some(Announced::Peer),
        [b"PROXY", family @ (b"TCP4" | b"TCP6"), source, destination, from, to] => {
            let address = |text| match family {
                b"TCP4" => Some(IpAddr::from(quad(text)?)),
                _ => Some(IpAddr::from(groups(text)?)),
            };
            Some(Announced::Client {
                source: SocketAddr::new(address(source)?, port(from)?),
                destination: SocketAddr::new(address(destination)?, port(to)?),
            })
        }
        _ => None,
    }
}

/// A number without zeros before it.
fn number(text: &[u8], most: u32) -> Option<u32> {
    let is_number = !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    if !is_number || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    let number = text.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    (number <= most).then_some(number)
}

fn port(text: &[u8]) -> Option<u16> {
    number(text, 65_535).map(|port| port as u16)
}

fn quad(text: &[u8]) -> Option<Ipv4Addr> {
    let numbers: Vec<_> = text.split(|byte| *byte == b'.').map(|part| number(part, 255)).collect();
    let [a, b, c, d] = numbers[..] else { return None };
    Some(Ipv4Addr::new(a? as u8, b? as u8, c? as u8, d? as u8))
}

/// RFC 4291 section 2.2: groups of hex, one run of zeros left out, perhaps an IPv4 address for the last two.
fn groups(text: &[u8]) -> Option<Ipv6Addr> {
    let gap = text.windows(2).position(|pair| pair == b"::");
    let (before, behind) = match gap {
        Some(at) => (side(&text[..at], false)?, side(&text[at + 2..], true)?),
        None => (side(text, true)?, Vec::new()),
    };
    let known = before.len() + behind.len();
    if (gap.is_none() && known != 8) || known > 8 || (gap.is_some() && known == 8) {
        return None;
    }
    let mut all = [0; 8];
    all[..before.len()].copy_from_slice(&before);
    all[8 - behind.len()..].copy_from_slice(&behind);
    Some(Ipv6Addr::from(all))
}

fn side(text: &[u8], is_last: bool) -> Option<Vec<u16>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b':').collect();
    let mut groups = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if is_last && at + 1 == parts.len() && part.contains(&b'.') {
            let [a, b, c, d] = quad(part)?.octets();
            groups.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            continue;
        }
        if part.is_empty() || part.len() > 4 || !part.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        groups.push(u16::from_str_radix(std::str::from_utf8(part).ok()?, 16).ok()?);
    }
    Some(groups)
}

/// Section 2.2.
fn version_2(header: &[u8]) -> Option<Announced> {
    if header.len() < 16 {
        return None;
    }
    let at = |index: usize| header.get(index).copied();
    let word = |index: usize| Some(u16::from_be_bytes([at(index)?, at(index + 1)?]));
    let (announced, values) = match (header[12], header[13]) {
        (0x20, _) => return Some(Announced::Peer),
        (0x21, 0x00) => (Announced::Peer, 16),
        (0x21, 0x31) => (Announced::Peer, 16 + 216),
        (0x21, 0x11) => {
            let ip = |from: usize| {
                let octets = (from..from + 4).map(at).collect::<Option<Vec<u8>>>()?;
                Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?))
            };
            let source = SocketAddr::new(ip(16)?, word(24)?);
            (Announced::Client { source, destination: SocketAddr::new(ip(20)?, word(26)?) }, 28)
        }
        (0x21, 0x21) => {
            let ip = |from: usize| {
                let octets = (from..from + 16).map(at).collect::<Option<Vec<u8>>>()?;
                Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?))
            };
            let source = SocketAddr::new(ip(16)?, word(48)?);
            (Announced::Client { source, destination: SocketAddr::new(ip(32)?, word(50)?) }, 52)
        }
        _ => return None,
    };
    let places = values_of(header, values)?;
    let is_true = |(kind, start, length): &(u8, usize, usize)| {
        *kind != 0x03 || (*length == 4 && header[*start..start + 4] == checksum(header, *start))
    };
    places.iter().all(is_true).then_some(announced)
}

/// Kind, place and length of each additional value from there to the end.
fn values_of(header: &[u8], mut at: usize) -> Option<Vec<(u8, usize, usize)>> {
    let mut values = Vec::new();
    while at < header.len() {
        let length = usize::from(*header.get(at + 1)?) << 8 | usize::from(*header.get(at + 2)?);
        values.push((header[at], at + 3, length));
        at += 3 + length;
    }
    (at == header.len()).then_some(values)
}

/// CRC-32C, with the four bytes there as zeros.
fn checksum(header: &[u8], blank: usize) -> [u8; 4] {
    let mut sum = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        let byte = if (blank..blank + 4).contains(&at) { 0 } else { *byte };
        for bit in 0..8 {
            let differs = (sum ^ u32::from(byte >> bit)) & 1 == 1;
            sum >>= 1;
            if differs {
                sum ^= 0x82f6_3b78;
            }
        }
    }
    (!sum).to_be_bytes()
}

/// Puts the right sum where there is a place for one: none is ever found by chance.
fn repair(header: &mut [u8]) -> bool {
    let values = match header.get(12..14) {
        Some([0x21, 0x00]) => 16,
        Some([0x21, 0x11]) => 28,
        Some([0x21, 0x21]) => 52,
        Some([0x21, 0x31]) => 232,
        _ => return false,
    };
    let Some(places) = values_of(header, values) else { return false };
    let Some((_, at, _)) = places.into_iter().find(|(kind, _, len)| (*kind, *len) == (0x03, 4))
    else {
        return false;
    };
    let sum = checksum(header, at);
    header[at..at + 4].copy_from_slice(&sum);
    true
}
