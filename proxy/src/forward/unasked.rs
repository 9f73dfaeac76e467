//! Takes out of a stream the chunk with the usage, which the client did not ask for and we did.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::body::{Body, BrokenOff};

/// A stream of events without its first chunk that has a usage and no choices. All other bytes pass as they are,
/// each event when it is whole.
struct Unasked {
    inner: Body,
    /// The beginning of an event.
    held: Vec<u8>,
    /// Bytes of it in which no end was found.
    searched: usize,
    found: bool,
    ended: bool,
}

/// Takes the usage out of a stream.
pub(super) fn without_usage(inner: Body) -> Body {
    Unasked { inner, held: Vec::new(), searched: 0, found: false, ended: false }.boxed_unsync()
}

/// Bytes of an event that is still looked at.
const LONGEST: usize = 4 * 1024 * 1024;

impl Unasked {
    /// The events that are whole now.
    fn take(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        let (mut out, mut begin) = (Vec::new(), 0);
        while let Some(end) = end_of_event(&self.held, self.searched.max(begin)) {
            let event = &self.held[begin..end];
            if !self.found && is_usage(event) {
                self.found = true;
            } else {
                out.extend_from_slice(event);
            }
            begin = end;
        }
        self.held.drain(..begin);
        if self.held.len() > LONGEST {
            // No event is so long: what is left passes as it is, and is not held.
            self.found = true;
            out.append(&mut self.held);
        }
        // A blank line may have begun in what was searched.
        self.searched = self.held.len().saturating_sub(2);
        out.into()
    }

    /// What comes after the last whole event, at the end or before it breaks off.
    fn rest(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.held);
        let kept = !rest.is_empty() && (self.found || !is_usage(&rest));
        kept.then(|| rest.into())
    }
}

impl http_body::Body for Unasked {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        while !self.ended {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let whole = self.take(&data);
                        if !whole.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(whole))));
                        }
                    }
                    // Trailers are the last frame of a body; what is held comes before them only as data.
                    Err(trailers) if self.held.is_empty() => return Poll::Ready(Some(Ok(trailers))),
                    Err(_) => self.ended = true,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.ended = true,
            }
        }
        Poll::Ready(self.rest().map(|rest| Ok(Frame::data(rest))))
    }
}

/// Where an event that has no end before `from` ends: after its blank line.
fn end_of_event(text: &[u8], from: usize) -> Option<usize> {
    (from..text.len()).find_map(|at| {
        let rest = &text[at..];
        let ends: [&[u8]; 3] = [b"\n\n", b"\n\r\n", b"\r\r"];
        ends.into_iter().find(|end| rest.starts_with(end)).map(|end| at + end.len())
    })
}

/// The part of a chunk that tells which one it is.
#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
    usage: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Whether an event is the chunk that `include_usage` adds: usage and no choices.
fn is_usage(event: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(event) else { return false };
    let data: String = text.lines().filter_map(|line| line.strip_prefix("data:")).collect();
    let chunk: Result<Chunk, _> = serde_json::from_str(&data);
    chunk.is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":7}}"#;

    async fn passed(pieces: Vec<Bytes>) -> Vec<u8> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(tokio_stream::iter(frames)).map_err(|never| match never {}).boxed_unsync();
        without_usage(body).collect().await.unwrap().to_bytes().to_vec()
    }

    /// A stream with or without the chunk, cut anywhere.
    fn run(before: &str, chunk: &str, after: &str, cuts: &[usize]) -> String {
        let whole = Bytes::from(format!("{before}{chunk}{after}"));
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
        places.extend([0, whole.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| whole.slice(pair[0]..pair[1])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        String::from_utf8(runtime.block_on(passed(pieces))).unwrap()
    }

    const OTHERS: [&str; 6] = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\\nb\"}}],\"usage\":null}",
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}",
        ": a comment",
        "event: x\ndata: {\"usage\":{}}",
        "data: [DONE]",
    ];

    proptest! {
        #[test]
        fn exactly_the_usage_goes(
            before in prop::collection::vec(0..OTHERS.len(), 0..5),
            after in prop::collection::vec(0..OTHERS.len(), 0..5),
            end in prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r"]),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
            open in any::<bool>(),
        ) {
            let text = |chosen: &[usize]| -> String {
                chosen.iter().map(|&one| OTHERS[one].replace('\n', end.split_at(end.len() / 2).0) + end).collect()
            };
            let (before, mut after) = (text(&before), text(&after));
            if open {
                after.push_str("data: unfinished");
            }
            let usage = format!("{USAGE}{end}");
            prop_assert_eq!(run(&before, &usage, &after, &cuts), format!("{before}{after}"));
            prop_assert_eq!(run(&before, "", &after, &cuts), format!("{before}{after}"));
        }
    }

    #[test]
    fn a_second_one_is_not_ours() {
        let usage = format!("{USAGE}\n\n");
        assert_eq!(run(&usage, &usage, "", &[]), usage);
        assert_eq!(run("", USAGE, "", &[]), "");
    }
}
