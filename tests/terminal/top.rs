//! `crossfade top`.

use crate::{
    pty::Terminal,
    stage::{SHOP, Stage},
};
use rustix::process::Signal;
use serde_json::Value;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

const LARGE: (u16, u16) = (100, 36);

#[track_caller]
fn assert_left_clean(terminal: &mut Terminal) {
    let status = terminal.end();
    assert_eq!(status.code(), Some(0), "{}", terminal.bytes());
    terminal.until("the last of it is read", |_| terminal.bytes().contains(LEAVE));
    let bytes = terminal.bytes();
    assert!(bytes.rfind(LEAVE) > bytes.rfind(ENTER), "{bytes:?}");
    assert!(bytes.rfind("\x1b[?25h") > bytes.rfind("\x1b[?25l"), "the cursor: {bytes:?}");
    assert!(terminal.is_usual());
}

#[test]
fn it_shows_what_happens_and_gives_the_terminal_back() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    let mut terminal = Terminal::run(&stage, &["top"], LARGE);
    for words in ["crossfade ", " ready ", "\n shop\n", " blue v1 ", " green v2 ", "100 (100%)"] {
        terminal.until_says(words);
    }
    assert!(!terminal.is_usual(), "keys are read one by one");

    served.change(
        "PUT",
        "/v1/services/shop/weights",
        r#"{"weights":{"blue":60,"green":40},"cause":"halfway"}"#,
    );
    terminal.until_says("60 (60.0%)");
    terminal.until_says("halfway");

    terminal.press("?");
    terminal.until_says("another service");
    terminal.press("?s");
    terminal.until("the help is gone", |screen| !screen.contains("another service"));
    terminal.until_says("s sort (by rate)");

    terminal.press("p");
    terminal.until_says(" paused ");
    served.change("PUT", "/v1/services/shop/weights", r#"{"weights":{"blue":70,"green":30}}"#);
    terminal.press("p");
    terminal.until_says("70 (70.0%)");

    terminal.resize((40, 10));
    terminal.until_says("POOL");
    terminal.until("all of it fits", |screen| screen.contains("blue") && screen.contains("70.0%"));

    terminal.press("q");
    assert_left_clean(&mut terminal);
}

#[test]
fn it_says_when_nobody_answers_and_goes_on() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    let mut terminal = Terminal::run(&stage, &["top"], LARGE);
    terminal.until_says("100 (100%)");
    served.kill();
    terminal.until_says("trying again: cannot reach the admin API");
    assert!(terminal.screen().contains("100 (100%)"), "what was known stays");
    let _served = stage.start();
    terminal.until("it is there again", |screen| !screen.contains("trying again"));
    terminal.press("\x03");
    assert_left_clean(&mut terminal);
}

#[test]
fn signals_end_it_like_keys() {
    let stage = Stage::new(SHOP);
    let _served = stage.start();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::run(&stage, &["top", "shop"], LARGE);
        terminal.until_says(" blue v1 ");
        terminal.signal(signal);
        assert_left_clean(&mut terminal);
    }
}

#[test]
fn no_colour_for_who_wants_none() {
    let stage = Stage::new(SHOP);
    let _served = stage.start();
    // Without health checks backends count as healthy, which is said in green.
    let green = "\x1b[38;5;2";
    for (wanted, value) in [(true, ""), (false, "1")] {
        let mut terminal = Terminal::with(&stage, &["top"], LARGE, |command| {
            command.env("NO_COLOR", value);
        });
        terminal.until_says("100 (100%)");
        terminal.press("q");
        assert_left_clean(&mut terminal);
        let bytes = terminal.bytes();
        assert_eq!(bytes.contains(green), wanted, "{bytes:?}");
        assert_eq!(bytes.contains("\x1b[38;"), wanted, "{bytes:?}");
    }
}

#[test]
fn without_a_terminal_it_looks_once() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    for arguments in [&["top"][..], &["top", "--once"], &["top", "shop"]] {
        let (code, out, err) = stage.run(arguments);
        assert_eq!((code, &*err), (0, ""), "{out}");
        for words in ["crossfade ", "SERVICE", "blue", "green", "what happened", "revision 1"] {
            assert!(out.contains(words), "{words}\n{out}");
        }
        assert!(!out.contains('\x1b'), "{out}");
    }
    let (code, out, _) = stage.run(&["-o", "json", "top"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(said["status"]["services"][0]["name"], "shop");
    assert!(said["drains"].is_array() && said["revisions"].is_array(), "{said}");
    let (code, _, err) = stage.run(&["top", "nonsense"]);
    assert_eq!(code, 1, "{err}");
    served.kill();
    let (code, out, err) = stage.run(&["top"]);
    assert_eq!((code, &*out), (5, ""), "{err}");
}

#[test]
fn nobody_there_at_first_leaves_the_terminal_alone() {
    let stage = Stage::new(SHOP);
    let mut terminal = Terminal::run(&stage, &["top"], LARGE);
    assert_eq!(terminal.end().code(), Some(5));
    terminal.until_says("CROSSFADE_ADMIN");
    assert!(!terminal.bytes().contains(ENTER));
}
