//! A part of a text, by bytes, cut between characters.

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'t> {
    /// Byte of the whole at which it begins: the one asked for, or the first before it that begins a character.
    pub offset: usize,
    /// The part.
    pub text: &'t str,
    /// Where the next part begins; none at the end.
    pub next: Option<usize>,
}

/// The part of at most `limit` bytes from `offset` on; where characters are longer than the limit, one character.
pub fn page(text: &str, offset: usize, limit: usize) -> Page<'_> {
    let offset = text.floor_char_boundary(offset);
    let mut end = text.floor_char_boundary(offset.saturating_add(limit));
    if end == offset {
        end = text[offset..].chars().next().map_or(end, |first| offset + first.len_utf8());
    }
    Page { offset, text: &text[offset..end], next: (end < text.len()).then_some(end) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_make_the_whole(text in "[a-zé😀\n]{0,60}", limit in 0_usize..20) {
            let (mut whole, mut offset) = (String::new(), Some(0));
            while let Some(at) = offset {
                let page = page(&text, at, limit);
                prop_assert!(page.text.len() <= limit.max(4) && page.offset == at);
                whole.push_str(page.text);
                offset = page.next;
            }
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn any_offset_is_answered(text in "[aé😀]{0,20}", offset: usize, limit: usize) {
            let page = page(&text, offset, limit);
            prop_assert!(page.offset <= offset.min(text.len()));
        }
    }
}
