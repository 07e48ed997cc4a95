//! Text from outside, made fit to be shown.

/// Text from outside, fit for a condition or an event: printable characters
/// only, white space joined, nothing that turns or hides what stands beside it,
/// at most `limit` characters.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
        .filter(|w| !w.is_empty())
    {
        let gap = usize::from(length > 0);
        let size = word.chars().count();
        if length + gap + size > limit {
            let room = limit.saturating_sub(length + gap + 1);
            if room > 0 && gap == 1 {
                shown.push(' ');
            }
            shown.extend(word.chars().take(room));
            shown.push('…');
            return shown;
        }
        if gap == 1 {
            shown.push(' ');
        }
        shown.push_str(word);
        length += gap + size;
    }
    shown
}

/// Zero width, direction and other format characters of Unicode (UAX 9, and the
/// block General Punctuation): with them a text shows as another than it is.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
    )
}

/// The most characters of Vault's or the API server's words in a message.
pub const FOREIGN_TEXT_LIMIT: usize = 512;
