//! JSON as Go's encoder writes it, so that a value that is not a string gets
//! the same bytes here as from the Vault Secrets Operator: keys sorted, no
//! spaces, `<`, `>`, `&`, U+2028 and U+2029 escaped, numbers as Vault spelled
//! them. Rule: Go's `encoding/json`, `Marshal`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// How deep arrays and objects may nest; Go itself stops at 10,000, but a
/// bound on our stack is wanted and no real secret comes near.
const DEPTH_LIMIT: usize = 96;

/// Writes `value` compactly.
///
/// # Errors
/// A sentence when the JSON nests too deeply or is not valid UTF-8 text.
pub fn compact(value: &RawValue) -> Result<String, String> {
    let mut out = String::with_capacity(value.get().len());
    write(value, &mut out, 0)?;
    Ok(out)
}

fn write(value: &RawValue, out: &mut String, depth: usize) -> Result<(), String> {
    if depth > DEPTH_LIMIT {
        return Err(format!(
            "JSON nested deeper than {DEPTH_LIMIT} levels: flatten it in Vault, or exclude its key and set spec.destination.transformation.excludeRaw"
        ));
    }
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            // A later duplicate of a key wins, as in Go.
            let fields: BTreeMap<String, &RawValue> = parse(text)?;
            out.push('{');
            for (index, (key, field)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(field, out, depth + 1)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(text)?;
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out, depth + 1)?;
            }
            out.push(']');
        }
        Some(b'"') => write_string(&parse::<String>(text)?, out),
        _ => out.push_str(text),
    }
    Ok(())
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // The error of serde_json could quote the text; its position cannot.
    serde_json::from_str(text).map_err(|error| {
        format!(
            "unreadable JSON at column {}: correct it in Vault, or exclude it",
            error.column()
        )
    })
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escape(c, out),
            c if u32::from(c) < 0x20 => escape(c, out),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn escape(c: char, out: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = write!(out, "\\u{:04x}", u32::from(c));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn go(text: &str) -> String {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        compact(&raw).unwrap()
    }

    #[test]
    fn writes_what_go_writes() {
        for (given, expected) in [
            (
                r#"{ "b" : 1, "a" : [ true, null ] }"#,
                r#"{"a":[true,null],"b":1}"#,
            ),
            (r#""a<b>&c""#, r#""a\u003cb\u003e\u0026c""#),
            ("\"\u{2028}\"", r#""\u2028""#),
            (r#""\u0041\u0001\u0008\u000c""#, r#""A\u0001\b\f""#),
            (
                r#"{"n":1e2,"m":1.10,"l":12345678901234567890}"#,
                r#"{"l":12345678901234567890,"m":1.10,"n":1e2}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""é\/""#, r#""é/""#),
        ] {
            assert_eq!(go(given), expected, "{given}");
        }
    }

    #[test]
    fn refuses_what_would_exhaust_the_stack() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let raw = RawValue::from_string(deep);
        // serde_json's own limit may refuse it first; either way nothing overflows.
        if let Ok(raw) = raw {
            assert!(compact(&raw).unwrap_err().contains("96 levels"));
        }
    }
}
