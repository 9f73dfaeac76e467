use proptest::prelude::*;

use super::*;
use crate::cache::maps::Maps;
use crate::cache::{Base, Segments, Shape, Store, Strip, held};

const SLOTS: usize = 5;
const CAPACITY: usize = 512;
/// Two strips of unlike heads: 32 and 16 tokens to a page.
const STRIPS: [Strip; 2] =
    [Strip { heads: 2, head_dim: 32, token: 128 }, Strip { heads: 1, head_dim: 64, token: 256 }];

/// Rows whose tokens are known: the byte of each is made of what it stands for.
struct Model {
    host: Host,
    segments: Segments,
    rows: Vec<Vec<u8>>,
    bases: Vec<Option<Base>>,
}

impl Model {
    fn new() -> Self {
        let host = Host::new(Shape { slots: SLOTS, capacity: CAPACITY, strips: STRIPS.to_vec() }).unwrap();
        let segments = Segments::default();
        segments.share_by(host.step());
        Self { host, segments, rows: vec![Vec::new(); SLOTS], bases: vec![None; SLOTS] }
    }

    /// Tokens are computed into a row, after the `past` first ones. What lies behind is another's canary.
    fn compute(&mut self, row: usize, past: usize, tokens: &[u8]) {
        self.rows[row].truncate(past);
        self.rows[row].extend_from_slice(tokens);
        for place in self.host.heads(row) {
            let token = STRIPS[place.strip].token;
            for (index, byte) in tokens.iter().enumerate() {
                let bytes = vec![byte.wrapping_add(salt(place)); token];
                self.host.write(place, (past + index) * token, &bytes).unwrap();
            }
            let end = (past + tokens.len()) * token;
            let rest = vec![0xff; (CAPACITY * token - end).min(3 * token)];
            self.host.write(place, end, &rest).unwrap();
        }
    }

    fn chain(&self, row: usize) -> Vec<u32> {
        self.rows[row].iter().map(|byte| u32::from(*byte)).collect()
    }

    fn rest_on(&mut self, row: usize, base: Option<Base>, held: usize) {
        let path = base.map_or_else(Vec::new, |base| self.segments.path(base));
        self.host.share(row, &path, held).unwrap();
        self.segments.rebase(self.bases[row], base, 0);
        self.bases[row] = base;
    }

    /// A row begins as the first `tokens` of another.
    fn give(&mut self, donor: usize, row: usize, tokens: usize) {
        let chain = &self.chain(donor)[..tokens];
        let whole = self.segments.whole(tokens);
        let mut base = self.segments.base(chain);
        let more = base.is_none_or(|base| base.tokens < whole);
        let added = if more { self.segments.add(&chain[..whole], base, 0) } else { None };
        if let Some(segment) = added {
            let from = base.map_or(0, |base| base.tokens);
            self.host.keep(segment, donor, from, whole).unwrap();
            base = Some(Base { segment, tokens: whole });
        }
        let shared = base.map_or(0, |base| base.tokens);
        if shared > self.bases[donor].map_or(0, |base| base.tokens) {
            self.rest_on(donor, base, self.rows[donor].len());
        }
        self.rest_on(row, base, 0);
        self.host.copy(donor, row, shared, tokens).unwrap();
        self.rows[row] = self.rows[donor][..tokens].to_vec();
    }

    /// A row is taken back to its first `tokens`.
    fn rewind(&mut self, row: usize, tokens: usize) {
        let base = self.bases[row].and_then(|base| self.segments.cut(base, tokens));
        if base != self.bases[row] {
            self.rest_on(row, base, tokens);
        }
        self.rows[row].truncate(tokens);
    }

    fn clear(&mut self, row: usize) {
        self.rest_on(row, None, 0);
        self.rows[row].clear();
        // Fresh pages: nothing of what was there can be seen.
        for place in self.host.heads(row) {
            let at = self.host.shape.offset(place);
            let head = &self.host.buffers[place.strip][at..][..CAPACITY * STRIPS[place.strip].token];
            assert!(*head == vec![0; head.len()]);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let tokens = self.rows[a].len().max(self.rows[b].len());
        self.host.swap(a, b, tokens).unwrap();
        self.rows.swap(a, b);
        self.bases.swap(a, b);
    }

    fn evict(&mut self) {
        while let Some((id, _)) = self.segments.evict() {
            drop(self.host.discard(id));
        }
    }

    fn check(&self) {
        for row in 0..SLOTS {
            for place in self.host.heads(row) {
                let token = STRIPS[place.strip].token;
                let mut bytes = vec![0; self.rows[row].len() * token];
                let mut expected = bytes.clone();
                for (own, byte) in expected.chunks_mut(token).zip(&self.rows[row]) {
                    own.fill(byte.wrapping_add(salt(place)));
                }
                self.host.read(place, &mut bytes).unwrap();
                assert!(bytes == expected, "{place:?} shows other tokens than its own");
            }
        }
    }
}

fn salt(place: Place) -> u8 {
    u8::try_from(place.strip * 7 + place.head * 3).unwrap()
}

fn tokens(seed: u8, count: usize) -> Vec<u8> {
    (0..count).map(|index| u8::try_from((index * 31 + usize::from(seed) * 57) % 200).unwrap()).collect()
}

/// Bytes of all segments, by what the system says: a page that is mapped several times is divided between its maps.
#[cfg(target_os = "linux")]
fn mapped() -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut ours, mut kib) = (false, 0);
    for line in smaps.lines() {
        if line.contains('-') && !line.contains("kB") {
            ours = line.contains("plimsoll-kv");
        } else if let Some(size) = line.strip_prefix("Pss:").filter(|_| ours) {
            kib += size.split_whitespace().next().unwrap().parse::<usize>().unwrap();
        }
    }
    kib * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn a_shared_prefix_is_in_memory_once() {
    let mut model = Model::new();
    model.compute(0, 0, &tokens(1, 500));
    let segments = held();
    for row in 1..SLOTS {
        model.give(0, row, 480);
    }
    // All of it is read, as a run does.
    model.check();
    // Three heads of 480 tokens, of 128, 128 and 256 bytes; each map's share is told in whole KiB.
    assert_eq!(held() - segments, 480 * 512);
    assert!(mapped().abs_diff(480 * 512) <= SLOTS * 3 * 1024, "{} bytes are mapped", mapped());
    // Each of three heads is of two pieces: the segment's and its own.
    assert_eq!(model.host.maps.count().0, SLOTS * 3 * 2);
    drop(model);
    assert_eq!((held(), mapped()), (segments, 0));
}

#[test]
fn who_writes_behind_or_goes_back_spoils_nobody() {
    let mut model = Model::new();
    model.compute(0, 0, &tokens(1, 200));
    for row in 1..SLOTS {
        model.give(0, row, 170);
        model.compute(row, 170, &tokens(u8::try_from(row).unwrap() + 9, 100));
    }
    // Donor and sharers go back, into a page, to its border and behind what is shared.
    for (row, to) in [(0, 100), (1, 96), (2, 165), (3, 0)] {
        model.rewind(row, to);
        model.compute(row, to, &tokens(90 + u8::try_from(row).unwrap(), 150));
        model.check();
    }
    model.swap(0, 3);
    model.swap(4, 1);
    model.check();
    for row in [4, 0, 2] {
        model.clear(row);
    }
    model.check();
    model.evict();
    model.check();
}

#[test]
fn a_branch_of_a_branch_shares_both() {
    let mut model = Model::new();
    model.compute(0, 0, &tokens(1, 300));
    model.give(0, 1, 128);
    model.compute(1, 128, &tokens(2, 160));
    model.give(1, 2, 288);
    assert_eq!(model.segments.path(model.bases[2].unwrap()).len(), 2);
    model.compute(2, 288, &tokens(3, 20));
    model.give(2, 3, 200);
    model.compute(3, 200, &tokens(4, 70));
    model.check();
    // The middle one goes, and what it began stays.
    model.clear(1);
    model.evict();
    model.swap(2, 4);
    model.rewind(4, 290);
    model.compute(4, 290, &tokens(5, 100));
    model.check();
}

#[test]
fn segments_fill_rows_that_share_nothing() {
    let mut model = Model::new();
    model.compute(0, 0, &tokens(1, 300));
    model.give(0, 1, 128);
    let segment = model.bases[1].unwrap().segment;
    model.host.fill(2, Extent { segment, first: 0, from: 0, to: 70 }).unwrap();
    model.rows[2] = tokens(1, 70);
    model.check();
    let missing = Extent { segment: SegmentId(99), first: 0, from: 0, to: 64 };
    assert!(model.host.fill(2, missing).is_err());
    assert!(model.host.share(3, &[missing], 0).is_err());
    model.clear(3);
    model.check();
}

#[test]
fn pieces_of_memory_are_bounded() {
    let mut model = Model::new();
    let used = model.host.maps().0;
    model.host.maps = Maps::of(used + 2 * 6);
    assert!(model.host.affords(2, 1) && !model.host.affords(3, 1) && !model.host.affords(2, 2));
    model.compute(0, 0, &tokens(1, 300));
    model.give(0, 1, 128);
    assert!(!model.host.affords(1, 1));
    model.clear(0);
    assert!(model.host.affords(1, 1));
    drop(model);
    assert_eq!(Maps::of(0).count().0, used);
}

#[test]
fn a_segment_cannot_be_changed() {
    use std::io::Write;

    let bytes = [7_u8; 4096];
    let segment = Segment::new(&STRIPS[..1], 32, |_, _| &bytes).unwrap();
    let (file, _) = segment.head(0, 1);
    assert!((&*file).write(&[1]).is_err() && file.set_len(0).is_err());
    let mut read = [0; 100];
    segment.read(0, 1, 50, &mut read).unwrap();
    assert_eq!(read, [7; 100]);
}

/// What may happen to rows, in any order.
#[derive(Debug, Clone)]
enum Act {
    Begin(usize, u8, usize),
    Give(usize, usize, usize),
    Rewind(usize, usize, u8),
    Swap(usize, usize),
    Clear(usize),
    Evict,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let row = 0..SLOTS;
    let act = prop_oneof![
        (row.clone(), any::<u8>(), 1usize..400).prop_map(|(row, seed, count)| Act::Begin(row, seed, count)),
        (row.clone(), row.clone(), 0usize..400).prop_map(|(donor, row, count)| Act::Give(donor, row, count)),
        (row.clone(), 0usize..400, any::<u8>()).prop_map(|(row, to, seed)| Act::Rewind(row, to, seed)),
        (row.clone(), row.clone()).prop_map(|(a, b)| Act::Swap(a, b)),
        row.prop_map(Act::Clear),
        Just(Act::Evict),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    /// Donors and sharers come, go back, change places and leave: each row shows its own tokens and no others.
    #[test]
    fn no_row_shows_what_is_another_s(acts in acts()) {
        let used = Maps::of(0).count().0;
        let mut model = Model::new();
        for act in acts {
            match act {
                Act::Begin(row, seed, count) => {
                    model.clear(row);
                    model.compute(row, 0, &tokens(seed, count));
                }
                Act::Give(donor, row, count) if donor != row => {
                    let count = count.min(model.rows[donor].len());
                    model.give(donor, row, count);
                }
                Act::Rewind(row, to, seed) => {
                    let to = to.min(model.rows[row].len());
                    model.rewind(row, to);
                    model.compute(row, to, &tokens(seed, 50));
                }
                Act::Swap(a, b) if a != b => model.swap(a, b),
                Act::Clear(row) => model.clear(row),
                Act::Evict => model.evict(),
                Act::Give(..) | Act::Swap(..) => {}
            }
            model.check();
        }
        drop(model);
        prop_assert_eq!(Maps::of(0).count().0, used);
    }
}
