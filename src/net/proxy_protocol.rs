//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): what a load balancer says of a
//! connection before the first byte of its client.

use crate::spec::ProxyVersion;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

/// Section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_START: &[u8; 6] = b"PROXY ";

/// Section 2.1: the longest line, with its end.
const LONGEST_LINE: usize = 107;

/// What may follow the 16 bytes of version 2: addresses (216 bytes at most) and what else is told of the client.
const LONGEST_REST: usize = 4096;

/// Between two looks at a beginning that may become a header or not; clients send more at once.
const PAUSE: Duration = Duration::from_millis(10);

/// Type of the additional value that holds the header's checksum (section 2.2.3).
const CRC32C: u8 = 0x03;

/// Who opened a connection, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The peer itself (a health check), or somebody without an IP address.
    Peer,
    Client {
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// Reads the header of a connection, and not a byte more. `None`: it has none, and nothing was read.
///
/// Bounded in bytes; the time is the caller's to bound.
///
/// # Errors
/// `UnexpectedEof` when the peer closes before, `InvalidData` when the header is malformed.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<Announced>> {
    let mut start = [0; SIGNATURE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        match begins(&start[..seen]) {
            Begins::Nothing => return Err(io::ErrorKind::UnexpectedEof.into()),
            Begins::Other => return Ok(None),
            Begins::V1 => return read_v1(stream).await.map(Some),
            Begins::V2 => return read_v2(stream).await.map(Some),
            Begins::Perhaps => sleep(PAUSE).await,
        }
    }
}

/// The header that tells of a client which is connected to `destination`.
pub fn announcing(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = (source.port(), destination.port());
    match (version, from, to) {
        (ProxyVersion::V1, IpAddr::V4(from), IpAddr::V4(to)) => {
            format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        // Both must be of one family.
        (ProxyVersion::V1, from, to) => {
            let (from, to) = (mapped(from), mapped(to));
            format!("PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
        }
        (ProxyVersion::V2, IpAddr::V4(from), IpAddr::V4(to)) => {
            header_v2(0x21, 0x11, &[&from.octets(), &to.octets()], Some(ports))
        }
        (ProxyVersion::V2, from, to) => {
            let (from, to) = (mapped(from).octets(), mapped(to).octets());
            header_v2(0x21, 0x21, &[&from, &to], Some(ports))
        }
    }
}

/// The header of a connection that the proxy makes for itself: a health check.
pub fn of_its_own(version: ProxyVersion) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        ProxyVersion::V2 => header_v2(0x20, 0x00, &[], None),
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn header_v2(command: u8, family: u8, ends: &[&[u8]], ports: Option<(u16, u16)>) -> Vec<u8> {
    let mut rest = ends.concat();
    if let Some((from, to)) = ports {
        rest.extend(from.to_be_bytes());
        rest.extend(to.to_be_bytes());
    }
    // 36 bytes at most.
    let length = [0, rest.len() as u8];
    [SIGNATURE, &[command, family][..], &length, &rest].concat()
}

#[derive(Debug, PartialEq, Eq)]
enum Begins {
    Nothing,
    V1,
    V2,
    Perhaps,
    Other,
}

fn begins(start: &[u8]) -> Begins {
    if start.is_empty() {
        Begins::Nothing
    } else if start == SIGNATURE {
        Begins::V2
    } else if start.starts_with(V1_START) {
        Begins::V1
    } else if SIGNATURE.starts_with(start) || V1_START.starts_with(start) {
        Begins::Perhaps
    } else {
        Begins::Other
    }
}

async fn read_v1(stream: &mut TcpStream) -> io::Result<Announced> {
    let mut line = [0; LONGEST_LINE];
    let mut len = 0;
    // What is behind the line is not this reader's, so only what is known to belong to it is taken.
    while len < line.len() {
        let seen = stream.peek(&mut line[len..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = line[len..len + seen].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(seen, |at| at + 1);
        stream.read_exact(&mut line[len..len + take]).await?;
        len += take;
        if end.is_some() {
            return parse_v1(&line[..len]).ok_or_else(malformed);
        }
    }
    Err(malformed())
}

async fn read_v2(stream: &mut TcpStream) -> io::Result<Announced> {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > LONGEST_REST {
        return Err(malformed());
    }
    header.resize(16 + rest, 0);
    stream.read_exact(&mut header[16..]).await?;
    parse_v2(&header).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed PROXY header")
}

/// Section 2.1: one line, its fields apart by single spaces.
fn parse_v1(line: &[u8]) -> Option<Announced> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let mut fields = line.strip_prefix("PROXY ")?.split(' ');
    let is_v4 = match fields.next()? {
        // Whatever follows must be ignored.
        "UNKNOWN" => return Some(Announced::Peer),
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || -> Option<IpAddr> {
        let text = fields.next()?;
        match is_v4 {
            true => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            false => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let text = fields.next()?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_padded = text.len() > 1 && text.starts_with('0');
        if is_plain && !is_padded { text.parse().ok() } else { None }
    };
    let ends = (SocketAddr::new(source, port()?), SocketAddr::new(destination, port()?));
    fields.next().is_none().then_some(Announced::Client { source: ends.0, destination: ends.1 })
}

/// Section 2.2, of a whole header.
fn parse_v2(header: &[u8]) -> Option<Announced> {
    let rest = header.strip_prefix(SIGNATURE)?.get(4..)?;
    let (command, family) = (header[12], header[13]);
    let announced = match (command, family) {
        // LOCAL: the family and the addresses must be ignored.
        (0x20, _) => Some((Announced::Peer, rest)),
        (0x21, 0x00) => Some((Announced::Peer, rest)),
        (0x21, 0x11) => rest.split_first_chunk::<12>().map(|(ends, rest)| {
            let ip = |at: usize| IpAddr::from([ends[at], ends[at + 1], ends[at + 2], ends[at + 3]]);
            (client(ip(0), ip(4), &ends[8..]), rest)
        }),
        (0x21, 0x21) => rest.split_first_chunk::<36>().map(|(ends, rest)| {
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&ends[at..at + 16]);
                IpAddr::from(octets)
            };
            (client(ip(0), ip(16), &ends[32..]), rest)
        }),
        // A unix socket has no address that would mean anything here.
        (0x21, 0x31) => rest.split_first_chunk::<216>().map(|(_, rest)| (Announced::Peer, rest)),
        _ => None,
    };
    let (announced, values) = announced?;
    let is_local = command == 0x20;
    (is_local || has_good_values(header, values)).then_some(announced)
}

fn client(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Announced {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Announced::Client {
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
    }
}

/// The additional values (section 2.2): each a type, a length and so many bytes; a checksum must be right.
fn has_good_values(header: &[u8], mut values: &[u8]) -> bool {
    while let Some((&[kind, high, low], rest)) = values.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return false };
        if kind == CRC32C {
            let at = header.len() - rest.len() - length;
            let told = value.try_into().map(u32::from_be_bytes);
            if told.ok() != Some(crc32c(header, at..at + length)) {
                return false;
            }
        }
        values = rest;
    }
    values.is_empty()
}

/// RFC 9260 appendix A, with the bytes of `blank` taken as zero.
fn crc32c(bytes: &[u8], blank: std::ops::Range<usize>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let sum = bytes.iter().enumerate().fold(u32::MAX, |mut sum, (at, byte)| {
        sum ^= u32::from(if blank.contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            sum = (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg());
        }
        sum
    });
    !sum
}

/// What a whole header says, for `tests/fuzz`; sockets and waiting are left out.
#[cfg(fuzzing)]
pub fn parse(header: &[u8]) -> Option<Announced> {
    match begins(&header[..header.len().min(SIGNATURE.len())]) {
        Begins::V1 => parse_v1(header),
        Begins::V2 => parse_v2(header),
        Begins::Nothing | Begins::Perhaps | Begins::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v1(line: &str) -> Option<Announced> {
        parse_v1(line.as_bytes())
    }

    fn from(source: &str, destination: &str) -> Option<Announced> {
        let [source, destination] = [source, destination].map(|it| it.parse().unwrap());
        Some(Announced::Client { source, destination })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0, 80];

    #[test]
    fn lines_of_version_1() {
        let told = v1("PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\n");
        assert_eq!(told, from("192.0.2.1:8080", "198.51.100.2:80"));
        let told = v1("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n");
        assert_eq!(told, from("[2001:db8::1]:0", "[::1]:65535"));
        assert_eq!(v1("PROXY UNKNOWN\r\n"), Some(Announced::Peer));
        assert_eq!(v1("PROXY UNKNOWN ffff:: whatever\r\n"), Some(Announced::Peer));
        for bad in [
            "PROXY\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 8080 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 08080 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +8080 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 8080 80\r\n",
            "PROXY TCP4 ::1 ::1 8080 80\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 8080 80\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 8080 80\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 8080 80\r\n",
        ] {
            assert_eq!(v1(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        assert_eq!(parse_v2(&v2(0x21, 0x11, &V4)), from("192.0.2.1:8080", "198.51.100.2:80"));
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[31], v6[33], v6[35]) = (0x20, 1, 2, 3, 4);
        assert_eq!(parse_v2(&v2(0x21, 0x21, &v6)), from("[2000::1]:3", "[::2]:4"));
        for peer in [
            v2(0x20, 0x00, b""),
            v2(0x20, 0x11, &V4),
            v2(0x20, 0x7f, b"what stands here is ignored"),
            v2(0x21, 0x00, b""),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(parse_v2(&peer), Some(Announced::Peer), "{peer:?}");
        }
        for bad in [
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x41, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x11, 0x11, &V4),
        ] {
            assert_eq!(parse_v2(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn additional_values_are_skipped_if_they_are_whole_and_their_checksum_is_right() {
        let with = |values: &[u8]| v2(0x21, 0x11, &[&V4, values].concat());
        assert!(parse_v2(&with(&[0xea, 0, 2, 1, 2, 0x04, 0, 0])).is_some());
        assert!(parse_v2(&with(&[0xea, 0, 3, 1, 2])).is_none(), "cut");
        assert!(parse_v2(&with(&[0xea, 0])).is_none(), "cut in its length");
        let mut summed = with(&[0x04, 0, 1, 0, CRC32C, 0, 4, 0, 0, 0, 0]);
        assert!(parse_v2(&summed).is_none(), "a wrong checksum");
        let at = summed.len() - 4;
        let sum = crc32c(&summed, at..at + 4);
        summed[at..].copy_from_slice(&sum.to_be_bytes());
        assert!(parse_v2(&summed).is_some());
        assert!(parse_v2(&with(&[CRC32C, 0, 3, 0, 0, 0])).is_none(), "too short for a checksum");
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[0; 32], 0..0), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32], 0..32), 0x8A91_36AA);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|at| at as u8), 0..0), 0x46DD_794E);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let read = |header: &[u8]| match header.starts_with(V1_START) {
            true => parse_v1(header),
            false => parse_v2(header),
        };
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (source, destination, told) in [
                ("192.0.2.1:8080", "198.51.100.2:80", "192.0.2.1:8080"),
                ("[2001:db8::1]:8080", "[::1]:80", "[2001:db8::1]:8080"),
                ("[::ffff:192.0.2.1]:1", "198.51.100.2:80", "192.0.2.1:1"),
            ] {
                let ends = [source, destination].map(|it| it.parse().unwrap());
                let header = announcing(version, ends[0], ends[1]);
                assert_eq!(read(&header), from(told, destination), "{header:?}");
            }
            let ends = ["192.0.2.1:1", "[::1]:80"].map(|it| it.parse().unwrap());
            let told = read(&announcing(version, ends[0], ends[1]));
            assert_eq!(told, from("[::ffff:192.0.2.1]:1", "[::1]:80"));
            assert_eq!(read(&of_its_own(version)), Some(Announced::Peer));
        }
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        assert!(announcing(ProxyVersion::V1, longest, longest).len() <= LONGEST_LINE);
    }

    #[test]
    fn a_beginning_is_told_as_soon_as_it_can_be() {
        assert_eq!(begins(b""), Begins::Nothing);
        assert_eq!(begins(b"P"), Begins::Perhaps);
        assert_eq!(begins(b"PROXY"), Begins::Perhaps);
        assert_eq!(begins(b"PROXY TCP4 1"), Begins::V1);
        assert_eq!(begins(b"PRI * HTTP/2"), Begins::Other);
        assert_eq!(begins(b"POST / HTTP/"), Begins::Other);
        assert_eq!(begins(b"\r\n"), Begins::Perhaps);
        assert_eq!(begins(SIGNATURE), Begins::V2);
        assert_eq!(begins(b"\r\nGET / HTTP"), Begins::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse_v1(&bytes);
            parse_v2(&bytes);
            let header = v2(0x21, bytes.first().copied().unwrap_or(0x11), &bytes);
            parse_v2(&header);
        }
    }
}
