//! The graph's names as C wants them.

use std::ffi::{CString, NulError};

use crate::model::{Cache, State, Wiring};

/// Names of inputs and outputs, by what they are for.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) ids: CString,
    pub(super) mask: Option<CString>,
    /// And their planes, where they have any.
    pub(super) positions: Option<(CString, Option<usize>)>,
    /// Whether there is a past.
    pub(super) branch: Option<CString>,
    /// And whether it is a scalar.
    pub(super) logits_wanted: Option<(CString, bool)>,
    pub(super) logits: CString,
    /// Whether logits come for the last token only.
    pub(super) last_only: bool,
    /// Past and present of each cache.
    pub(super) caches: Vec<(CString, CString)>,
    /// Past and present of each state.
    pub(super) states: Vec<(CString, CString)>,
}

impl Names {
    pub(super) fn new(wiring: &Wiring) -> Result<Self, NulError> {
        let c = |name: &String| CString::new(name.as_str());
        let cache = |cache: &Cache| Ok((c(&cache.past)?, c(&cache.present)?));
        let state = |state: &State| Ok((c(&state.past)?, c(&state.present)?));
        let wanted = wiring.logits_wanted.as_ref();
        let positions = wiring.positions.as_ref();
        Ok(Self {
            ids: c(&wiring.ids)?,
            mask: wiring.mask.as_ref().map(c).transpose()?,
            positions: positions.map(|of| Ok((c(&of.name)?, of.planes))).transpose()?,
            branch: wiring.branch.as_ref().map(c).transpose()?,
            logits_wanted: wanted.map(|(name, scalar)| Ok((c(name)?, *scalar))).transpose()?,
            logits: c(&wiring.logits)?,
            last_only: wiring.last_only,
            caches: wiring.caches.iter().map(cache).collect::<Result<_, _>>()?,
            states: wiring.states.iter().map(state).collect::<Result<_, _>>()?,
        })
    }
}
