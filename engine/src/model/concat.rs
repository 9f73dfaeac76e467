//! Graphs of plain operations, as optimum exports them: each cache grows by one concatenation.

use std::collections::HashMap;

use super::graph::{Cache, Found, Reader};
use super::proto::{NodeProto, ValueInfoProto};
use super::{Layout, refuse};
use crate::error::LoadError;

/// What exporters call the attention mask and the positions. Their shapes alone do not tell them apart.
const MASK: &str = "attention_mask";
const POSITIONS: &str = "position_ids";

/// Whether an input is a cache `[batch, heads, tokens, head_dim]` of any number of tokens.
fn grows(input: &ValueInfoProto) -> bool {
    matches!(input.dims()[..], [_, _, None, _])
}

impl Reader<'_> {
    /// The layout of a graph without `GroupQueryAttention`.
    pub(super) fn concatenated(&self) -> Result<Found, LoadError> {
        let joins: HashMap<&str, &NodeProto> = self
            .graph
            .node
            .iter()
            .filter(|node| node.op_type == "Concat" && matches!(node.int("axis"), Some(2 | -2)))
            .filter_map(|node| Some((node.given(0)?, node)))
            .collect();
        let caches = self
            .graph
            .input
            .iter()
            .filter(|input| self.inputs.contains_key(input.name.as_str()) && grows(input))
            .map(|past| self.joined(&joins, &past.name))
            .collect::<Result<Vec<Cache>, _>>()?;
        let element = caches.first().map(|first| self.inputs[first.past.as_str()].element());
        if caches.iter().any(|cache| Some(self.inputs[cache.past.as_str()].element()) != element) {
            return Err(refuse::input("its caches are of more than one type".to_owned()).at(self.path));
        }
        let mask = Some(MASK).filter(|name| self.is_int64(name, &[2]));
        let wiring = self.wire(mask, caches, Vec::new())?;
        if wiring.caches.is_empty() && wiring.states.is_empty() {
            return Err(refuse::no_cache().at(self.path));
        }
        if let Some(other) = wiring.positions.as_ref().filter(|positions| positions.name != POSITIONS) {
            let reason = format!("it is not known what its input `{}` needs", other.name);
            return Err(refuse::input(reason).at(self.path));
        }
        let logits = self.outputs[wiring.logits.as_str()];
        Ok(Found {
            cache_element: element,
            logits_element: logits.element(),
            vocab: logits.dims().get(2).copied().flatten(),
            positions: None,
            heads: None,
            layout: if wiring.caches.is_empty() { Layout::Hybrid } else { Layout::Concatenated },
            wiring,
        })
    }

    /// A cache that goes from a graph input through one concatenation to a graph output.
    fn joined(&self, joins: &HashMap<&str, &NodeProto>, past: &str) -> Result<Cache, LoadError> {
        let join = joins.get(past).filter(|join| join.input.len() == 2);
        let present = join.and_then(|join| self.outputs.get(join.output.first()?.as_str()));
        let present = present.ok_or_else(|| refuse::lost_cache(past).at(self.path))?;
        self.sized(self.inputs[past], present, None, None)
    }
}
