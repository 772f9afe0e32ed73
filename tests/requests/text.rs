//! The escapes of the case files.

/// The bytes that a text with escapes stands for: `\r \n \t \0 \\ \xNN`, and `\{text*N}` for N times the text.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let kind = after.chars().next().ok_or("a lone \\ at the end")?;
        rest = &after[kind.len_utf8()..];
        match kind {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            'x' => {
                let byte = rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(byte.ok_or("\\x wants two hex digits")?);
                rest = &rest[2..];
            }
            '{' => {
                let (repeated, after) = rest.split_once('}').ok_or("\\{ wants a }")?;
                let (text, times) = repeated.rsplit_once('*').ok_or("\\{ wants a *")?;
                let times = match times.strip_prefix("0x") {
                    Some(hex) => usize::from_str_radix(hex, 16),
                    None => times.parse(),
                };
                let times = times.map_err(|_| "how often?")?;
                out.extend(bytes(text)?.repeat(times));
                rest = after;
            }
            other => return Err(format!("\\{other} is no escape")),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Bytes for a person to read, the long ones cut.
pub fn show(bytes: &[u8]) -> String {
    const LONGEST: usize = 700;
    let shown = bytes[..bytes.len().min(LONGEST)].escape_ascii().to_string();
    match bytes.len() {
        len if len > LONGEST => format!("{shown}... ({len} bytes)"),
        _ => shown,
    }
}

#[test]
fn escapes() {
    assert_eq!(bytes("a\\r\\n\\t\\0\\x7f\\\\é").unwrap(), b"a\r\n\t\0\x7f\\\xc3\xa9");
    assert_eq!(bytes("<\\{ab*2}>\\{\\x00*3}").unwrap(), b"<abab>\0\0\0");
    assert_eq!(bytes("\\{a*0xa}").unwrap(), b"aaaaaaaaaa");
    for bad in ["\\", "\\q", "\\x1", "\\xgg", "\\{a*2", "\\{a}", "\\{a*b}"] {
        assert!(bytes(bad).is_err(), "{bad}");
    }
}
