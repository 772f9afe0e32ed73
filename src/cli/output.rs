use std::io::{self, IsTerminal, Write};

/// Prints to stdout. Who reads may leave early (`| head`): that is no error of ours.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Says on stderr what went wrong.
pub(super) fn complain(message: &str) {
    say(&format!("crossfade: {message}"));
}

/// A line on stderr, as it is.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Colours are for people who have not said no (https://no-color.org).
pub(super) fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && to_terminal()
}

/// Somebody reads along.
pub(super) fn to_terminal() -> bool {
    io::stdout().is_terminal()
}
