//! What text from outside becomes before a person reads it.

use super::printable;

#[test]
fn text_from_outside_shows_what_it_is() {
    for (text, limit, shown) in [
        ("permission denied\r\n", 100, "permission denied"),
        (" a\u{1b}[31m\tb ", 100, "a [31m b"),
        ("ä ö", 3, "ä ö"),
        ("abc def", 5, "abc…"),
        ("abc def", 6, "abc d…"),
        // Turned around, hidden, or joined, by no character that can be seen.
        ("a\u{202e}lave\u{202c} b", 100, "a lave b"),
        ("\u{feff}a\u{200b}\u{2066}b\u{200f}\u{206f}", 100, "a b"),
    ] {
        assert_eq!(printable(text, limit), shown, "{text:?}");
    }
}
