use proptest::prelude::*;

use super::{Scanned, StopScanner};

fn scanner(stops: &[&str]) -> StopScanner {
    StopScanner::new(stops.iter().map(|stop| (*stop).to_owned()).collect())
}

fn passed(text: &str) -> Scanned {
    Scanned { text: text.to_owned(), stop: None }
}

#[test]
fn a_stop_across_chunks_is_found_and_its_beginning_held_back() {
    let mut scanner = scanner(&["\n\nUser:", "END"]);
    assert_eq!(scanner.push("hello\n"), passed("hello"));
    assert_eq!(scanner.push("\nUs"), passed(""));
    assert_eq!(scanner.push("ing E"), passed("\n\nUsing "));
    assert_eq!(scanner.push("N"), passed(""));
    assert_eq!(scanner.push("D more"), Scanned { text: String::new(), stop: Some("END".to_owned()) });
    assert!(scanner.stopped());
    assert_eq!((scanner.push("more"), scanner.finish()), (passed(""), String::new()));
}

#[test]
fn what_was_held_back_comes_at_the_end() {
    let mut scanner = scanner(&["abc", ""]);
    assert_eq!(scanner.push("xab"), passed("x"));
    assert_eq!(scanner.finish(), "ab");
}

#[test]
fn the_first_complete_stop_counts() {
    let stop = |stops: &[&str], text: &str| scanner(stops).push(text);
    assert_eq!(
        stop(&["abcd", "bc"], "xabcd"),
        Scanned { text: "xa".to_owned(), stop: Some("bc".to_owned()) }
    );
    assert_eq!(stop(&["c", "abc"], "xabcd"), Scanned { text: "x".to_owned(), stop: Some("abc".to_owned()) });
}

/// The shortest beginning of `text` that ends with a stop string, without the longest such string.
fn naive(stops: &[String], text: &str) -> Option<(String, String)> {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends {
        let matching = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
        if let Some(stop) = matching.max_by_key(|stop| stop.len()) {
            return Some((text[..end - stop.len()].to_owned(), stop.clone()));
        }
    }
    None
}

proptest! {
    #[test]
    fn finds_what_a_naive_search_finds(
        stops in prop::collection::vec("[abé]{0,4}", 0..4),
        chunks in prop::collection::vec("[abcé]{0,4}", 0..8),
    ) {
        let mut scanner = StopScanner::new(stops.clone());
        let (mut text, mut stop) = (String::new(), None);
        for chunk in &chunks {
            let scanned = scanner.push(chunk);
            text.push_str(&scanned.text);
            stop = stop.or(scanned.stop);
        }
        text.push_str(&scanner.finish());
        let whole = chunks.concat();
        match naive(&stops, &whole) {
            Some((expected, found)) => prop_assert_eq!((text, stop), (expected, Some(found))),
            None => prop_assert_eq!((text, stop), (whole, None)),
        }
    }
}
