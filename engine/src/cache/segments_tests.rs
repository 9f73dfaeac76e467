use super::*;

fn chain(seed: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|token| token + if token < 160 { 0 } else { seed * 1000 }).collect()
}

/// Segments in steps of 32 tokens: 160 tokens that all begin with, and two ways to go on from their 128th.
fn tree() -> (Segments, SegmentId, SegmentId) {
    let segments = Segments::default();
    segments.share_by(32);
    let root = segments.add(&chain(0, 160), None, 1).unwrap();
    let below = Base { segment: root, tokens: 128 };
    let branch = [&chain(0, 128)[..], &[9; 96]].concat();
    let branch = segments.add(&branch, Some(below), 2).unwrap();
    (segments, root, branch)
}

#[test]
fn the_longest_beginning_is_found() {
    let (segments, root, branch) = tree();
    let base = |segment, tokens| Some(Base { segment, tokens });
    assert_eq!(segments.common(&chain(5, 300)), Some((root, 160)));
    assert_eq!(segments.base(&chain(5, 300)), base(root, 160));
    // Whole steps alone are shared, and no fewer than are worth it.
    assert_eq!(segments.base(&chain(5, 150)), base(root, 128));
    assert_eq!(segments.base(&chain(5, 63)), None);
    let other = [&chain(0, 128)[..], &[9; 50]].concat();
    assert_eq!((segments.common(&other), segments.base(&other)), (Some((branch, 178)), base(branch, 160)));
    assert_eq!(segments.base(&other[..130]), base(root, 128));
    assert_eq!(segments.common(&[7]), None);
}

#[test]
fn a_path_goes_from_the_first_token_on() {
    let (segments, root, branch) = tree();
    let extent = |segment, first, to| Extent { segment, first, from: first, to };
    let path = segments.path(Base { segment: branch, tokens: 192 });
    assert_eq!(path, [extent(root, 0, 128), extent(branch, 128, 192)]);
    assert_eq!(
        segments.cut(Base { segment: branch, tokens: 192 }, 100),
        Some(Base { segment: root, tokens: 96 })
    );
    // Neither short ones nor long paths.
    assert_eq!(segments.add(&chain(0, 63), None, 3), None);
    let mut base = Base { segment: branch, tokens: 224 };
    let mut chain = [&chain(0, 128)[..], &[9; 96]].concat();
    for added in 0..3 {
        chain.extend([added; 64]);
        let id = segments.add(&chain, Some(base), 3);
        assert_eq!(id.is_some(), added < 2);
        base = id.map_or(base, |segment| Base { segment, tokens: chain.len() });
    }
}

#[test]
fn what_is_in_use_stays_and_the_longest_unused_goes() {
    let (segments, root, branch) = tree();
    let base = Some(Base { segment: branch, tokens: 192 });
    segments.rebase(None, base, 5);
    assert_eq!((segments.evict(), segments.alone()), (None, 0));
    segments.rebase(base, None, 6);
    assert_eq!((segments.pin(base), segments.pin(base), segments.unpin(base)), (256, 0, 0));
    assert_eq!((segments.evict(), segments.unpinned(), segments.alone()), (None, 0, 256));
    assert_eq!((segments.unpin(base), segments.tokens()), (256, 256));
    // Another stands on the root.
    assert_eq!(
        (segments.oldest_use(), segments.evict(), segments.evict()),
        (Some(5), Some((branch, None)), Some((root, Some(chain(0, 160).into()))))
    );
    assert_eq!((segments.evict(), segments.tokens(), segments.count()), (None, 0, 0));
}

#[test]
fn permits_of_segments_that_are_gone_count_on_nothing() {
    let (segments, root, _) = tree();
    let base = Some(Base { segment: root, tokens: 128 });
    assert_eq!((segments.pin(base), segments.clear(), segments.unpin(base)), (160, 160, 0));
    let segments = Segments::default();
    // Nothing is shared where no step is known.
    assert_eq!(segments.add(&chain(0, 500), None, 0), None);
}
