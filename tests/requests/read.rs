//! The case files (README.md says how they read).

use crate::{
    case::{ANY, Act, Case, End, Expectation, Listener, Pieces, Reply, Rest},
    text, wire,
};

/// # Panics
/// When the file is not as README.md says.
pub fn read(file: &str, text: &str) -> Vec<Case> {
    let mut drafts: Vec<Draft<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        if let Some(name) = line.strip_prefix("## ") {
            drafts.push(Draft { place, name, ..Draft::default() });
        } else if !line.is_empty() && !line.starts_with("# ") && line != "#" {
            let draft = drafts.last_mut().unwrap_or_else(|| panic!("{place}: before any case"));
            draft.line(line).unwrap_or_else(|why| panic!("{place}: {why}: {line}"));
        }
    }
    let cases = drafts.iter().map(|draft| (draft, draft.cases()));
    cases
        .flat_map(|(draft, cases)| cases.unwrap_or_else(|why| panic!("{}: {why}", draft.place)))
        .collect()
}

/// A case as it is written.
#[derive(Default)]
struct Draft<'a> {
    place: String,
    name: &'a str,
    why: bool,
    open: bool,
    /// And whether hyper differs; if none is marked, it does for all.
    each: Vec<(bool, &'a str)>,
    listener: Listener,
    pieces: Pieces,
    behind_native_only: bool,
    /// `>` and `!`.
    script: Vec<(char, &'a str)>,
    replies: Option<&'a str>,
    tunnel: Option<&'a str>,
    backend: Vec<&'a str>,
    hyper_note: Option<&'a str>,
    hyper_replies: Option<&'a str>,
    hyper_backend: Vec<&'a str>,
}

impl<'a> Draft<'a> {
    fn line(&mut self, line: &'a str) -> Result<(), String> {
        let (head, rest) = match line {
            ">" | "|" | "hyper|" => (line, ""),
            _ => line.split_once(' ').ok_or("no such line")?,
        };
        match head {
            "why:" => self.why = true,
            "open:" => self.open = true,
            "each:" => self.each.push((false, rest)),
            "each*:" => self.each.push((true, rest)),
            "on:" => self.listener = listener(rest)?,
            "behind:" if rest == "native" => self.behind_native_only = true,
            "pieces:" => self.pieces = pieces(rest)?,
            ">" => self.script.push(('>', rest)),
            "!" => self.script.push(('!', rest)),
            "<" => once(&mut self.replies, rest)?,
            "<<" => once(&mut self.tunnel, rest)?,
            "|" => self.backend.push(rest),
            "hyper:" => once(&mut self.hyper_note, rest)?,
            "hyper<" => once(&mut self.hyper_replies, rest)?,
            "hyper|" => self.hyper_backend.push(rest),
            _ => return Err("no such line".into()),
        }
        Ok(())
    }

    fn cases(&self) -> Result<Vec<Case>, String> {
        let differs = self.hyper_replies.is_some() || !self.hyper_backend.is_empty();
        if !self.why {
            return Err("why?".into());
        }
        if differs != self.hyper_note.is_some() {
            return Err("a difference of hyper wants a note, and a note a difference".into());
        }
        match &self.each[..] {
            [] => Ok(vec![self.case(None, true)?]),
            each => {
                let all = each.iter().all(|(is_marked, _)| !is_marked);
                each.iter().map(|(marked, text)| self.case(Some(text), all || *marked)).collect()
            }
        }
    }

    /// `differs`: what is said of hyper holds for this variant.
    fn case(&self, variant: Option<&str>, differs: bool) -> Result<Case, String> {
        let filled = |text: &str| match variant {
            Some(variant) => text.replace("@@", variant),
            None => text.to_owned(),
        };
        let mut script: Vec<Act> = Vec::new();
        for (kind, text) in &self.script {
            let act = match kind {
                '>' => Act::Send(sent(&filled(text))?),
                _ => act(text)?,
            };
            match (script.last_mut(), act) {
                (Some(Act::Send(before)), Act::Send(more)) => before.extend(more),
                (_, act) => script.push(act),
            }
        }
        if self.pieces != Pieces::Whole && !matches!(script[..], [Act::Send(_)]) {
            return Err("only what is sent at once can be cut".into());
        }
        let replies = self.replies.ok_or("what does the client get?")?;
        let backend: Vec<_> = self.backend.iter().map(|line| filled(line)).collect();
        let tunnel = self.tunnel.map(|tunnel| text::bytes(&filled(tunnel))).transpose()?;
        let native = expectation(&filled(replies), tunnel.clone(), &backend)?;
        let hyper_replies = self.hyper_replies.filter(|_| differs).unwrap_or(replies);
        let hyper_backend: Vec<_> = match &self.hyper_backend[..] {
            [] => backend,
            _ if !differs => backend,
            lines => lines.iter().map(|line| filled(line)).collect(),
        };
        let hyper = match hyper_replies {
            "unplayed" => None,
            replies => Some(expectation(&filled(replies), tunnel, &hyper_backend)?),
        };
        Ok(Case {
            place: self.place.clone(),
            name: match variant {
                Some(variant) => format!("{}: {}", self.name, shortened(variant)),
                None => self.name.to_owned(),
            },
            open: self.open,
            listener: self.listener,
            pieces: self.pieces,
            behind_on_hyper: !self.behind_native_only,
            script,
            native,
            hyper,
        })
    }
}

fn once<'a>(place: &mut Option<&'a str>, text: &'a str) -> Result<(), String> {
    match place.replace(text) {
        None => Ok(()),
        Some(_) => Err("twice".into()),
    }
}

fn shortened(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= 64 {
        return text.to_owned();
    }
    let (begin, end) = (&letters[..48], &letters[letters.len() - 12..]);
    format!("{}...{}", String::from_iter(begin), String::from_iter(end))
}

/// A line that is sent: with a line end, unless it ends in a lone backslash.
fn sent(line: &str) -> Result<Vec<u8>, String> {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        return text::bytes(&line[..line.len() - 1]);
    }
    let mut bytes = text::bytes(line)?;
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}

fn listener(text: &str) -> Result<Listener, String> {
    Ok(match text {
        "slow" => Listener::Slow,
        "trusted" => Listener::Trusted,
        "http1" => Listener::Http1,
        _ => return Err("no such listener".into()),
    })
}

fn pieces(text: &str) -> Result<Pieces, String> {
    Ok(match text {
        "every cut" => Pieces::EveryCut,
        "single" => Pieces::Single,
        _ => return Err("no such pieces".into()),
    })
}

fn act(text: &str) -> Result<Act, String> {
    Ok(match text {
        "await reply" => Act::AwaitReply,
        "await backend" => Act::AwaitBackend,
        "await messages" => Act::AwaitMessages,
        "settle" => Act::Settle,
        "half-close" => Act::HalfClose,
        "leave" => Act::Leave,
        "reset" => Act::Reset,
        _ => return Err(format!("the client cannot {text}")),
    })
}

fn expectation(
    replies: &str,
    tunnel: Option<Vec<u8>>,
    backend: &[String],
) -> Result<Expectation, String> {
    let mut items: Vec<_> = replies.split(", ").collect();
    let end = match items.pop() {
        Some("open") => End::Open,
        Some("closed") => End::Closed,
        Some("gone") => End::Gone,
        _ => return Err("open, closed or gone?".into()),
    };
    let mut replies = Vec::new();
    for item in items {
        let (item, times) = match item.split_once(" times ") {
            Some((item, times)) => (item, often(times)?),
            None => (item, 1),
        };
        replies.extend(std::iter::repeat_n(reply(item)?, times));
    }
    let (messages, rest) = seen(backend)?;
    Ok(Expectation { replies, end, tunnel, messages, rest })
}

fn reply(text: &str) -> Result<Reply, String> {
    let mut words = text.split(' ');
    let word = words.next().unwrap_or_default();
    let (optional, status) = (word.ends_with('?'), word.trim_end_matches('?').parse());
    let status = status.map_err(|_| "a status?")?;
    let mut reply = Reply { status, optional, ..Reply::default() };
    for word in words {
        match word.split_once('=') {
            Some(("version", version)) => reply.version = Some(version.into()),
            Some((name, value)) => reply.field = Some((name.into(), value.into())),
            _ if word == "bodyless" => reply.bodyless = true,
            _ if word == "close" => reply.close = true,
            _ => reply.error = Some(word.into()),
        }
    }
    Ok(reply)
}

/// Whole messages, parted by lines of `---`; `nothing`, `cut` or `maybe cut` say what else there is.
fn seen(lines: &[String]) -> Result<(Vec<wire::Message>, Rest), String> {
    let mut messages = Vec::new();
    let mut rest = None;
    for part in lines.split(|line| line == "---") {
        match part {
            [] => return Err("what does the backend get?".into()),
            [word] if word == "nothing" => rest = Some(Rest::Nothing),
            [word] if word == "cut" => rest = Some(Rest::Cut),
            [word] if word == "maybe cut" => rest = Some(Rest::MaybeCut),
            [lines @ .., last] => match last.strip_prefix("times ") {
                Some(times) => {
                    messages.extend(std::iter::repeat_n(message(lines)?, often(times)?));
                }
                None => messages.push(message(part)?),
            },
        }
    }
    Ok((messages, rest.unwrap_or_default()))
}

fn often(times: &str) -> Result<usize, String> {
    times.parse().map_err(|_| "how often?".into())
}

fn message(lines: &[String]) -> Result<wire::Message, String> {
    let mut message = wire::Message { start: text::bytes(&lines[0])?, ..wire::Message::default() };
    let mut lines = lines[1..].iter();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        message.fields.push(field(line)?);
    }
    for line in lines {
        match line.strip_prefix("trailer ") {
            Some(trailer) => message.trailers.push(field(trailer)?),
            None => message.body.extend(text::bytes(line)?),
        }
    }
    Ok(message)
}

/// `...` stands for fields that do not matter.
fn field(line: &str) -> Result<wire::Field, String> {
    if line == ANY {
        return Ok(wire::Field { name: ANY.into(), value: Vec::new() });
    }
    let (name, value) = line.split_once(':').ok_or("a field wants a colon")?;
    let value = text::bytes(value.strip_prefix(' ').unwrap_or(value))?;
    Ok(wire::Field { name: text::bytes(name)?, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = "# about\n## a name\nwhy: RFC\neach: x\neach*: y\n> GET /@@ HTTP/1.1\n\
        > Host: a\\\n! await reply\n>\n< 100, 200 version=v2, open\n| GET /@@ HTTP/1.1\n| host: a\n\
        |\n| body\n| trailer t: 1\n| ---\n| cut\nhyper: why\nhyper< 400 bad_request, closed\n";

    #[test]
    fn a_case_says_all_of_it() {
        let cases = read("f", CASE);
        assert_eq!(cases.len(), 2);
        let case = &cases[1];
        assert_eq!(case.title(), "a name: y (f:2)");
        let send = Act::Send(b"GET /y HTTP/1.1\r\nHost: a".to_vec());
        assert_eq!(case.script, [send, Act::AwaitReply, Act::Send(b"\r\n".to_vec())]);
        assert_eq!(case.native.replies[1].version.as_deref(), Some("v2"));
        assert_eq!((case.native.end, case.native.rest), (End::Open, Rest::Cut));
        let message = &case.native.messages[0];
        assert_eq!(
            (&message.start[..], &message.body[..]),
            (&b"GET /y HTTP/1.1"[..], &b"body"[..])
        );
        assert_eq!((message.fields.len(), message.trailers.len()), (1, 1));
        assert_eq!(cases[0].hyper.as_ref(), Some(&cases[0].native));
        let hyper = case.hyper.as_ref().unwrap();
        assert_eq!(hyper.replies[0].error.as_deref(), Some("bad_request"));
        assert_eq!(hyper.messages, case.native.messages);
    }

    #[test]
    fn a_case_that_leaves_something_out_is_refused() {
        for without in ["why: RFC\n", "< 100, 200 version=v2, open\n", "hyper: why\n"] {
            let text = CASE.replace(without, "");
            assert!(std::panic::catch_unwind(|| read("f", &text)).is_err(), "{without}");
        }
        let text = CASE.replace("! await reply", "! wait");
        assert!(std::panic::catch_unwind(|| read("f", &text)).is_err());
    }
}
