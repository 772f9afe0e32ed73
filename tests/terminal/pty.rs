//! A terminal with a program in it, and what can be read on it.

use crate::{stage::Stage, support::PATIENCE};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Terminal {
    keyboard: File,
    /// Held open, so that the terminal outlives the program.
    line: File,
    /// All that was written, in its order.
    written: Arc<Mutex<Vec<u8>>>,
    program: Child,
    size: (u16, u16),
}

impl Terminal {
    /// Runs a verb of the binary against the proxy of `stage`.
    pub(crate) fn run(stage: &Stage, verb: &[&str], size: (u16, u16)) -> Self {
        Self::with(stage, verb, size, |_| {})
    }

    pub(crate) fn with(
        stage: &Stage,
        verb: &[&str],
        size: (u16, u16),
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let keyboard = File::from(keyboard.unwrap());
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let mut line = OpenOptions::new();
        // Whoever has no terminal, as in CI, is not given this one.
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut line, NOCTTY);
        let line = line.read(true).write(true).open(name).unwrap();
        resize(&line, size);
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
        command.args(verb).stdin(end()).stdout(end()).stderr(end());
        command.env("CROSSFADE_ADMIN", format!("unix:{}", stage.path("admin.sock").display()));
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        prepare(&mut command);
        let program = command.spawn().unwrap();
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut screen, all) = (keyboard.try_clone().unwrap(), Arc::clone(&written));
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut some) {
                all.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self { keyboard, line, written, program, size }
    }

    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// What can be read on it now, line by line.
    pub(crate) fn screen(&self) -> String {
        shown(&self.bytes(), self.size)
    }

    #[track_caller]
    pub(crate) fn until_says(&self, words: &str) {
        self.until(words, |screen| screen.contains(words));
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !holds(&self.screen()) {
            assert!(began.elapsed() < 3 * PATIENCE, "never: {what}\n{}", self.screen());
            thread::sleep(LOOK);
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        // What was shown before is drawn anew.
        self.written.lock().unwrap().clear();
        resize(&self.line, size);
        // It is nobody's controlling terminal, so nobody else tells.
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < 4 * PATIENCE, "it goes on\n{}", self.screen());
            thread::sleep(LOOK);
        }
    }

    /// Echoes, waits for whole lines and turns keys into signals, as a shell finds it.
    pub(crate) fn is_usual(&self) -> bool {
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcgetattr(&self.line).unwrap().local_modes.contains(usual)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

const NOCTTY: i32 = OpenptFlags::NOCTTY.bits() as i32;

fn resize(line: &File, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(line, size).unwrap();
}

/// As much of a terminal as our programs use (ECMA-48): places, erasing, returns; colours do not matter.
fn shown(bytes: &str, (columns, rows): (u16, u16)) -> String {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut x, mut y) = (0_usize, 0_usize);
    let mut letters = bytes.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => x = 0,
            '\n' => y += 1,
            '\x1b' if letters.peek() == Some(&'[') => {
                letters.next();
                let mut arguments = String::new();
                let end = loop {
                    match letters.next() {
                        Some(it @ '@'..='~') => break it,
                        Some(it) => arguments.push(it),
                        None => break ' ',
                    }
                };
                let numbers: Vec<usize> =
                    arguments.split(';').map(|it| it.parse().unwrap_or(0)).collect();
                let (first, count) = (numbers[0], numbers[0].max(1));
                match end {
                    'A' => y = y.saturating_sub(count),
                    'B' => y += count,
                    'C' => x += count,
                    'D' => x = x.saturating_sub(count),
                    'H' => {
                        y = count - 1;
                        x = numbers.get(1).map_or(0, |it| it.max(&1) - 1);
                    }
                    'J' if first == 2 => cells = vec![vec![' '; columns]; rows],
                    'J' => {
                        for (row, line) in cells.iter_mut().enumerate().skip(y) {
                            line.iter_mut()
                                .skip(if row == y { x } else { 0 })
                                .for_each(|it| *it = ' ');
                        }
                    }
                    'K' if first == 2 && y < rows => cells[y].fill(' '),
                    'K' if y < rows => cells[y].iter_mut().skip(x).for_each(|it| *it = ' '),
                    _ => {}
                }
            }
            // A sequence of two letters, such as those that keep and restore the cursor.
            '\x1b' => drop(letters.next()),
            letter if letter.is_control() => {}
            letter => {
                if x == columns {
                    (x, y) = (0, y + 1);
                }
                if y >= rows {
                    cells.drain(..=y - rows);
                    cells.resize(rows, vec![' '; columns]);
                    y = rows - 1;
                }
                cells[y][x.min(columns - 1)] = letter;
                x += 1;
            }
        }
    }
    cells.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
}

#[test]
fn what_a_terminal_shows() {
    let shown = |bytes| shown(bytes, (5, 2));
    assert_eq!(shown("ab\r\ncd"), "ab\ncd\n");
    assert_eq!(shown("\x1b[2;3Hx\x1b[1;1Hy"), "y\n  x\n");
    assert_eq!(shown("\x1b[31mred\x1b[0m\x1b7"), "red\n\n");
    assert_eq!(shown("abcdefg"), "abcde\nfg\n");
    assert_eq!(shown("a\r\nb\r\nc"), "b\nc\n");
    assert_eq!(shown("abc\r\x1b[Kd"), "d\n\n");
    assert_eq!(shown("ab\r\ncd\x1b[1A\r\x1b[Jx"), "x\n\n");
    assert_eq!(shown("abc\x1b[2D\x1b[1Cx\x1b[2J"), "\n\n");
}
