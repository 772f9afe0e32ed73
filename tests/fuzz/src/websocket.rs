//! The frames of a WebSocket once more, from RFC 6455 section 5.2 alone: where each ends.

use crossfade::proxy::Follower;

/// How it stands behind a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Within,
    /// A Close frame has begun, or ended.
    Closed,
    Nonsense,
}

/// Any bytes: wherever they are cut, the follower stands where the frames say, and stops at their ends alone.
pub fn check(input: &[u8]) {
    let Some((piece, bytes)) = super::cut(input) else { return };
    let places = places(bytes);
    let step = super::piece(piece).min(bytes.len().max(1));
    let mut follower = Follower::default();
    let mut at = 0;
    for piece in bytes.chunks(step) {
        assert_eq!(follower.follow(piece, false), piece.len());
        at += piece.len();
        assert_eq!(stands(&follower), places[at], "behind {at} bytes");
    }
    let mut follower = Follower::default();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..][..step.min(bytes.len() - at)];
        let followed = follower.follow(rest, true);
        let is_end = |place: &Place| *place == Place::Between;
        let expected = places[at + 1..=at + rest.len()].iter().position(is_end);
        assert_eq!(followed, expected.map_or(rest.len(), |end| end + 1), "from {at} on");
        at += followed;
    }
}

fn stands(follower: &Follower) -> Place {
    match follower.stands() {
        [true, false, false] => Place::Between,
        [false, false, false] => Place::Within,
        [false, true, false] => Place::Closed,
        [false, false, true] => Place::Nonsense,
        both => panic!("{both:?}"),
    }
}

/// Behind each number of bytes.
fn places(bytes: &[u8]) -> Vec<Place> {
    let mut places = vec![Place::Between; bytes.len() + 1];
    let mut start = 0;
    let mut closed = false;
    while start < bytes.len() {
        let frame = &bytes[start..];
        let (head, payload) = head(frame);
        let Some(payload) = payload else {
            // Its head has not come.
            let place = if closed { Place::Closed } else { Place::Within };
            places[start + 1..].fill(place);
            break;
        };
        let within = if closed { Place::Closed } else { Place::Within };
        places[start + 1..start + head].fill(within);
        if payload >> 63 == 1 {
            places[start + head..].fill(Place::Nonsense);
            break;
        }
        closed |= frame[0] % 16 == 8;
        let left = (frame.len() - head) as u64;
        let (end, is_whole) = match payload <= left {
            true => (start + head + payload as usize, true),
            false => (bytes.len(), false),
        };
        places[start + head..=end].fill(if closed { Place::Closed } else { Place::Within });
        if is_whole && !closed {
            places[end] = Place::Between;
        }
        start = end;
        if !is_whole {
            break;
        }
    }
    places
}

/// Bytes of a frame's head, and of its payload if all of the head is there.
fn head(frame: &[u8]) -> (usize, Option<u64>) {
    let Some(second) = frame.get(1) else { return (2, None) };
    let more = match second % 128 {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let head = 2 + more + if *second >= 128 { 4 } else { 0 };
    if frame.len() < head {
        return (head, None);
    }
    let long = frame[2..2 + more].iter().fold(0, |length, byte| length * 256 + u64::from(*byte));
    (head, Some(if more == 0 { u64::from(second % 128) } else { long }))
}
