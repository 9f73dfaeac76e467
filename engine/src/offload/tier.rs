//! One place for conversations: which there are, how much they take, and who goes first. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

/// A conversation in a tier.
#[derive(Debug)]
pub(super) struct Kept<T> {
    pub(super) what: T,
    pub(super) bytes: u64,
    /// When it was last used, in uses of all.
    used: u64,
    pub(super) since: Instant,
}

/// A conversation that made room for another one.
pub(super) type Gone<T> = (Arc<[u32]>, Kept<T>);

/// Conversations by their tokens, within a limit. In the order of their tokens the one that begins most like a prompt
/// stands next to the prompt's own place.
#[derive(Debug)]
pub(super) struct Tier<T> {
    limit: u64,
    bytes: u64,
    uses: u64,
    kept: BTreeMap<Arc<[u32]>, Kept<T>>,
}

impl<T> Tier<T> {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, bytes: 0, uses: 0, kept: BTreeMap::new() }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are taken or promised.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The conversation that begins as `prompt` does for longest, and for how many tokens.
    pub(super) fn find(&self, prompt: &[u32]) -> Option<(Arc<[u32]>, usize)> {
        let before = self.kept.range::<[u32], _>((Bound::Unbounded, Bound::Included(prompt))).next_back();
        let after = self.kept.range::<[u32], _>((Bound::Included(prompt), Bound::Unbounded)).next();
        let near = before.into_iter().chain(after).map(|(tokens, _)| (tokens, common(tokens, prompt)));
        let (tokens, count) = near.max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0)?;
        Some((tokens.clone(), count))
    }

    /// A conversation that holds all these tokens from the first one on.
    pub(super) fn covering(&self, tokens: &[u32]) -> Option<Arc<[u32]>> {
        let after = self.kept.range::<[u32], _>((Bound::Included(tokens), Bound::Unbounded)).next();
        after.map(|(held, _)| held).filter(|held| held.starts_with(tokens)).cloned()
    }

    /// The conversations that `tokens` go on from.
    pub(super) fn beginnings(&self, tokens: &[u32]) -> Vec<Arc<[u32]>> {
        let mut found = Vec::new();
        let mut end = tokens.len();
        while end > 0 {
            let shorter = (Bound::Unbounded, Bound::Included(&tokens[..end]));
            let Some((before, _)) = self.kept.range::<[u32], _>(shorter).next_back() else { break };
            let count = common(before, &tokens[..end]);
            if count == before.len() {
                found.push(before.clone());
                end = count.saturating_sub(1);
            } else {
                end = count;
            }
        }
        found
    }

    pub(super) fn get(&self, tokens: &[u32]) -> Option<&Kept<T>> {
        self.kept.get(tokens)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u32]>, &Kept<T>)> {
        self.kept.iter()
    }

    /// It has been used.
    pub(super) fn touch(&mut self, tokens: &[u32]) {
        self.uses += 1;
        if let Some(kept) = self.kept.get_mut(tokens) {
            (kept.used, kept.since) = (self.uses, Instant::now());
        }
    }

    /// Promises bytes for one that comes; those longest unused that `may_go` make room and are returned. `None`: there
    /// is not so much room, and all stays as it was.
    pub(super) fn promise(&mut self, bytes: u64, may_go: impl Fn(&T) -> bool) -> Option<Vec<Gone<T>>> {
        let can_go: u64 = self.kept.values().filter(|kept| may_go(&kept.what)).map(|kept| kept.bytes).sum();
        if self.bytes - can_go + bytes > self.limit {
            return None;
        }
        let mut gone = Vec::new();
        while self.bytes + bytes > self.limit {
            let free = self.kept.iter().filter(|(_, kept)| may_go(&kept.what));
            let Some(oldest) = free.min_by_key(|(_, kept)| kept.used).map(|(tokens, _)| tokens.clone())
            else {
                break;
            };
            gone.extend(self.remove(&oldest).map(|kept| (oldest, kept)));
        }
        self.bytes += bytes;
        Some(gone)
    }

    /// Bytes that were promised are not needed.
    pub(super) fn unpromise(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// Takes in a conversation for which so many bytes were promised. One of the same tokens goes.
    pub(super) fn insert(&mut self, tokens: Arc<[u32]>, bytes: u64, what: T) -> Option<Kept<T>> {
        self.uses += 1;
        let former = self.remove(&tokens);
        self.kept.insert(tokens, Kept { what, bytes, used: self.uses, since: Instant::now() });
        former
    }

    pub(super) fn remove(&mut self, tokens: &[u32]) -> Option<Kept<T>> {
        let kept = self.kept.remove(tokens)?;
        self.bytes -= kept.bytes;
        Some(kept)
    }

    /// Uses so far.
    pub(super) fn uses(&self) -> u64 {
        self.uses
    }

    /// Takes out all that were not used after so many uses.
    pub(super) fn clear(&mut self, uses: u64) {
        let bytes = &mut self.bytes;
        self.kept.retain(|_, kept| {
            let stays = kept.used > uses;
            *bytes -= if stays { 0 } else { kept.bytes };
            stays
        });
    }
}

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tier of these conversations, each of which takes as many bytes as it has tokens.
    fn tier(limit: u64, all: &[&[u32]]) -> Tier<()> {
        let mut tier = Tier::new(limit);
        for tokens in all {
            assert!(tier.promise(tokens.len() as u64, |()| true).is_some());
            tier.insert((*tokens).into(), tokens.len() as u64, ());
        }
        tier
    }

    #[test]
    fn the_longest_unused_make_room() {
        let mut tier = tier(10, &[&[1, 2, 3], &[4, 5, 6], &[7, 8, 9]]);
        tier.touch(&[1, 2, 3]);
        let gone = tier.promise(4, |()| true).unwrap();
        assert_eq!(gone.iter().map(|(tokens, _)| &tokens[..]).collect::<Vec<_>>(), [[4, 5, 6]]);
        assert_eq!((tier.bytes(), tier.len()), (10, 2));
        // More than there is pushes nothing out, nor does what must stay.
        assert!(tier.promise(7, |()| true).is_none() && tier.promise(1, |()| false).is_none());
        tier.unpromise(4);
        assert_eq!((tier.bytes(), tier.len()), (6, 2));
        // The same tokens count once.
        assert!(tier.promise(3, |()| true).unwrap().is_empty());
        assert!(tier.insert([1, 2, 3][..].into(), 3, ()).is_some());
        assert_eq!((tier.bytes(), tier.len()), (6, 2));
        tier.clear(tier.uses() - 1);
        assert_eq!((tier.bytes(), tier.len()), (3, 1));
    }

    #[test]
    fn longer_ones_stand_for_their_beginnings() {
        let tier = tier(99, &[&[1], &[1, 2], &[1, 2, 3, 4], &[1, 2, 9], &[2]]);
        let found = tier.beginnings(&[1, 2, 3, 4, 5]);
        assert_eq!(found.iter().map(|tokens| tokens.len()).collect::<Vec<_>>(), [4, 2, 1]);
        assert_eq!(tier.covering(&[1, 2, 3]).as_deref(), Some(&[1, 2, 3, 4][..]));
        assert_eq!((tier.covering(&[1, 3]), tier.covering(&[1, 2, 3, 4, 5])), (None, None));
    }

    proptest! {
        #[test]
        fn the_most_alike_is_found(
            all in prop::collection::vec(prop::collection::vec(0u32..3, 1..7), 0..20),
            prompt in prop::collection::vec(0u32..3, 0..8),
        ) {
            let all: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
            let tier = tier(1000, &all);
            let longest = all.iter().map(|tokens| common(tokens, &prompt)).max().unwrap_or(0);
            let found = tier.find(&prompt);
            prop_assert_eq!(found.as_ref().map_or(0, |(_, count)| *count), longest);
            prop_assert!(found.is_none_or(|(tokens, count)| common(&tokens, &prompt) == count));
            let mut begun: Vec<_> = all.iter().filter(|tokens| prompt.starts_with(tokens)).collect();
            begun.sort_unstable();
            begun.dedup();
            let mut found: Vec<_> = tier.beginnings(&prompt);
            found.sort_unstable();
            prop_assert_eq!(found.iter().map(|tokens| &tokens[..]).collect::<Vec<_>>(), begun.into_iter().copied().collect::<Vec<_>>());
            let covered = all.iter().any(|tokens| tokens.starts_with(&prompt));
            prop_assert_eq!(tier.covering(&prompt).is_some(), covered);
        }
    }
}
