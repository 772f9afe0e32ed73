//! What a peer's frames cost, counted below the library that reads them, header by header and both ways.
//!
//! Most floods are made of frames that are cheap to send, dear to take and allowed one by one. Each such frame
//! takes from a budget, which time and traffic that is worth something fill up again. Resets of streams have a
//! budget of their own, whoever sends them: a peer can also bring this side to reset (CVE-2025-8671).
//!
//! Sizes and streams of frames are judged here too, so that each fault gets the error that RFC 9113 gives it, and header
//! blocks before the library sees them (`blocks.rs`).

mod blocks;
mod frames;
mod shown;
mod sum;
#[cfg(test)]
mod tests;

pub(super) use blocks::{MALFORMED, ODD, TOO_LARGE};
pub(super) use sum::Limits;

use super::backlog::Backlog;
use blocks::Blocks;
use frames::{Event, Frames, HEADER, Header, kind};
use h2::Reason;
use shown::Shown;
use std::ops::Range;

/// The largest frame that is taken: what RFC 9113 section 4.2 starts from, and nobody was offered more.
const LARGEST_FRAME: usize = 16 << 10;

/// Frames beside requests and bodies that a peer may send at once, and how many more a second. Pings, window
/// updates and priorities of busy clients are far below: each DATA frame earns more than it causes.
const CHATTER: u32 = 2000;

/// What a frame costs that makes this side answer or do work out of proportion.
const DEAR: u32 = 10;

/// What this proxy is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

#[derive(Debug)]
pub(super) struct Guard {
    side: Side,
    inbound: Frames,
    outbound: Frames,
    /// The first frame has come.
    begun: bool,
    /// The stream whose header block goes on in the next frame.
    block: Option<u32>,
    blocks: Blocks,
    /// It takes no new streams.
    leaves: bool,
    /// How often bytes have come.
    heard: u64,
    /// When a header block or a frame other than DATA began that is not complete.
    since: Option<u64>,
    chatter: Budget,
    resets: Budget,
    verdict: Option<Reason>,
    backlog: Backlog,
}

impl Guard {
    /// `resets` is what a client may have reset beyond its answered requests. All times are milliseconds of the
    /// process's clock.
    pub(super) fn new(side: Side, resets: u32, limits: Limits, now: u64) -> Self {
        let (inbound, outbound) = match side {
            Side::Server => (Frames::behind_preface(), Frames::default()),
            Side::Client => (Frames::default(), Frames::behind_preface()),
        };
        Self {
            side,
            inbound,
            outbound,
            begun: false,
            block: None,
            blocks: Blocks::new(side, limits),
            leaves: false,
            heard: 0,
            since: None,
            chatter: Budget::full(CHATTER, now),
            resets: Budget::full(resets, now),
            verdict: None,
            backlog: Backlog::default(),
        }
    }

    /// Why the connection must end, once that is so.
    pub(super) fn verdict(&self) -> Option<Reason> {
        self.verdict
    }

    /// The peer has shown that it speaks HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The peer has said that it takes no new streams.
    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// How often the peer was heard of.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// What was handed over and is not written.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Since when the peer owes the rest of something that it has begun to say.
    pub(super) fn owes_since(&self) -> Option<u64> {
        self.since
    }

    /// Bytes have come. Returns how many of them the library may see as they are: all, if nothing is wrong with them
    /// and no header or header block is cut. What it is to see then is appended to `instead`, which is empty before.
    pub(super) fn take_in(&mut self, bytes: &[u8], now: u64, instead: &mut Vec<u8>) -> usize {
        self.heard += 1;
        let mut shown = Shown::new(bytes, instead);
        match self.read(bytes, now, &mut shown) {
            Err(reason) => self.verdict = Some(reason),
            Ok(()) if self.since.is_none() => {
                let owes = self.block.is_some() || self.inbound.is_within_a_message();
                self.since = owes.then_some(now);
            }
            Ok(()) => {}
        }
        shown.as_they_are()
    }

    /// # Errors
    /// With what the peer is told when the connection cannot go on.
    fn read(&mut self, bytes: &[u8], now: u64, shown: &mut Shown<'_>) -> Result<(), Reason> {
        let mut rest = bytes;
        // Where the frame begins whose payload comes, if it was not cut before that.
        let mut start = None;
        loop {
            let from = bytes.len() - rest.len();
            let within = self.inbound.within();
            let is_at_a_header = self.inbound.is_at_a_header();
            let event = self.inbound.next(&mut rest);
            let to = bytes.len() - rest.len();
            match (&event, within) {
                (Some(Event::Head(header)), _) => {
                    self.judge(header, now)?;
                    start = (to - from == HEADER).then_some(from);
                    if header.is_of_a_block() {
                        self.blocks.begin(header);
                    } else if start.is_some() {
                        shown.pass(from..to);
                    } else {
                        shown.say(&header.to_bytes());
                    }
                }
                (_, Some(header)) if header.is_of_a_block() => {
                    let is_end = event.is_some();
                    self.take_block(&header, (start, from..to), is_end, shown)?;
                }
                // A header in pieces is kept where it is read.
                (None, None) if is_at_a_header => {}
                (Some(Event::Unit(header, unit)), _) => {
                    self.judge_unit(header, *unit, now)?;
                    shown.pass(from..to);
                }
                (Some(Event::End) | None, _) => shown.pass(from..to),
            }
            match event {
                Some(Event::End) if self.block.is_none() => self.since = None,
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// A piece of a header block's frame, which starts before it in the same bytes or not.
    fn take_block(
        &mut self,
        header: &Header,
        (start, piece): (Option<usize>, Range<usize>),
        is_end: bool,
        shown: &mut Shown<'_>,
    ) -> Result<(), Reason> {
        let is_whole = is_end
            && piece.len() == header.len
            && header.kind == kind::HEADERS
            && header.has(frames::END_HEADERS);
        match start {
            Some(start) if is_whole => {
                let payload = shown.at(piece.clone());
                if self.blocks.take_whole(payload, shown.instead())? {
                    shown.pass(start..piece.end);
                }
            }
            _ => {
                self.blocks.keep(shown.at(piece))?;
                if is_end {
                    self.blocks.end(header, shown.instead())?;
                }
            }
        }
        Ok(())
    }

    /// Bytes have been sent.
    pub(super) fn take_out(&mut self, mut bytes: &[u8], now: u64) {
        loop {
            match self.outbound.next(&mut bytes) {
                Some(Event::Head(header)) => self.note_sent(&header),
                Some(Event::Unit(header, unit)) if header.kind == kind::RST_STREAM => {
                    // What tells a client that its body is not wanted is no fault of its.
                    let is_fault = unit != u32::from(Reason::NO_ERROR).to_be_bytes();
                    if self.side == Side::Server && is_fault && !self.resets.take(1, now) {
                        self.verdict = Some(Reason::ENHANCE_YOUR_CALM);
                    }
                }
                Some(Event::Unit(..) | Event::End) => {}
                None => break,
            }
        }
    }

    fn note_sent(&mut self, header: &Header) {
        match header.kind {
            kind::DATA => self.backlog.written(header.stream, header.len),
            kind::RST_STREAM => {
                self.backlog.reset(header.stream);
                self.blocks.note_over(header.stream);
            }
            kind::HEADERS if self.side == Side::Client => self.blocks.note_asked(header.stream),
            _ => {}
        }
        if matches!(header.kind, kind::DATA | kind::HEADERS) {
            self.chatter.earn(2);
            if header.has(frames::END_STREAM) {
                self.resets.earn(1);
            }
        }
    }

    /// # Errors
    /// With what the peer is told when the connection cannot go on.
    fn judge(&mut self, header: &Header, now: u64) -> Result<(), Reason> {
        if !self.begun {
            // Section 3.4.
            if header.kind != kind::SETTINGS || header.has(frames::ACK) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.begun = true;
        }
        if header.len > LARGEST_FRAME {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        // Sections 6.2 and 6.10: nothing else within a header block, and that nowhere else.
        let continued = (header.kind == kind::CONTINUATION).then_some(header.stream);
        if self.block != continued {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.judge_form(header)?;
        match self.price(header) {
            0 => self.chatter.earn(2),
            price if self.chatter.take(price, now) => {}
            _ => return Err(Reason::ENHANCE_YOUR_CALM),
        }
        let is_reset = header.kind == kind::RST_STREAM && self.side == Side::Server;
        if is_reset && !self.resets.take(1, now) {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        self.leaves |= header.kind == kind::GOAWAY;
        if header.kind == kind::RST_STREAM {
            self.backlog.reset(header.stream);
            self.blocks.note_over(header.stream);
        }
        if header.kind == kind::DATA && header.has(frames::END_STREAM) {
            self.blocks.note_over(header.stream);
        }
        if header.is_of_a_block() {
            let goes_on = !header.has(frames::END_HEADERS);
            self.block = goes_on.then_some(header.stream);
        }
        Ok(())
    }

    /// The size that a kind of frame must have and the stream that it must be about (section 6).
    fn judge_form(&self, header: &Header) -> Result<(), Reason> {
        let (has_good_size, of_a_stream) = match header.kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => (true, true),
            kind::PRIORITY => (header.len == 5, true),
            kind::RST_STREAM => (header.len == 4, true),
            kind::SETTINGS if header.has(frames::ACK) => (header.len == 0, false),
            kind::SETTINGS => (header.len.is_multiple_of(6), false),
            kind::PING => (header.len == 8, false),
            kind::GOAWAY => (header.len >= 8, false),
            kind::WINDOW_UPDATE => return size(header.len == 4),
            // Clients never push, and nobody may push to this one.
            kind::PUSH_PROMISE => return Err(Reason::PROTOCOL_ERROR),
            _ => return Ok(()),
        };
        if of_a_stream != (header.stream != 0) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        size(has_good_size)
    }

    /// What the frame takes from the budget; 0: it is worth something.
    fn price(&self, header: &Header) -> u32 {
        match header.kind {
            kind::DATA if header.len == 0 && !header.has(frames::END_STREAM) => DEAR,
            kind::DATA | kind::HEADERS => 0,
            kind::CONTINUATION if header.len == 0 => DEAR,
            kind::SETTINGS if !header.has(frames::ACK) => DEAR,
            _ => 1,
        }
    }

    fn judge_unit(&mut self, header: &Header, unit: [u8; 4], now: u64) -> Result<(), Reason> {
        let value = u32::from_be_bytes(unit);
        match header.kind {
            // Section 6.9; as an error of the connection (section 5.4.2 allows it): nothing is gained by telling.
            kind::WINDOW_UPDATE if value << 1 == 0 => Err(Reason::PROTOCOL_ERROR),
            kind::SETTINGS => {
                if !self.chatter.take(1, now) {
                    return Err(Reason::ENHANCE_YOUR_CALM);
                }
                self.judge_setting(header.setting, value)
            }
            _ => Ok(()),
        }
    }

    /// Section 6.5.2, and RFC 8441 section 3.
    fn judge_setting(&self, setting: u16, value: u32) -> Result<(), Reason> {
        let most_push = u32::from(self.side == Side::Server);
        match setting {
            2 if value > most_push => Err(Reason::PROTOCOL_ERROR),
            4 if value > (1 << 31) - 1 => Err(Reason::FLOW_CONTROL_ERROR),
            5 if !(1 << 14..1 << 24).contains(&value) => Err(Reason::PROTOCOL_ERROR),
            8 if value > 1 => Err(Reason::PROTOCOL_ERROR),
            _ => Ok(()),
        }
    }
}

fn size(is_good: bool) -> Result<(), Reason> {
    if is_good { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR) }
}

/// So much at once, and a tenth of that more each second.
#[derive(Debug)]
struct Budget {
    most: u32,
    left: u32,
    /// When it was last filled up.
    filled: u64,
}

impl Budget {
    fn full(most: u32, now: u64) -> Self {
        Self { most, left: most, filled: now }
    }

    fn earn(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.most);
    }

    /// False when there is not so much left.
    fn take(&mut self, amount: u32, now: u64) -> bool {
        let seconds = now.saturating_sub(self.filled) / 1000;
        if seconds > 0 {
            let share = u64::from(self.most).div_ceil(10).saturating_mul(seconds);
            self.earn(u32::try_from(share).unwrap_or(u32::MAX));
            self.filled += seconds * 1000;
        }
        match self.left.checked_sub(amount) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
