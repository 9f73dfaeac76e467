//! Layers that carry a state of constant size from token to token in the place of keys and values.

use super::graph::{Reader, State};
use super::proto::NodeProto;
use super::refuse;
use crate::error::LoadError;

/// The operation that is known to go on from its state exactly, in parts of any length.
pub(super) const CONVOLUTION: &str = "CausalConvWithState";
/// Numbers of a state, at most: more is no model but a damaged file.
const MOST: u64 = 1 << 28;

impl Reader<'_> {
    /// The states of all convolutions. `cache` is an input that holds keys or values: states are of its type.
    pub(super) fn states(&self, cache: &str) -> Result<Vec<State>, LoadError> {
        let layers = self.graph.node.iter().filter(|node| node.op_type == CONVOLUTION);
        layers.map(|layer| self.state(layer, cache)).collect()
    }

    /// A state that goes from a graph input through the layer to a graph output.
    fn state(&self, layer: &NodeProto, cache: &str) -> Result<State, LoadError> {
        let past = layer.given(3).and_then(|name| self.inputs.get(name));
        let present = layer.output.get(1).and_then(|name| self.outputs.get(name.as_str()));
        let (Some(past), Some(present)) = (past, present) else {
            return Err(refuse::inner_state().at(self.path));
        };
        let dims = past.dims().into_iter().skip(1).collect::<Option<Vec<u64>>>().unwrap_or_default();
        let numbers = dims.iter().try_fold(1, |product: u64, dim| product.checked_mul(*dim));
        let sane = numbers.is_some_and(|numbers| (1..=MOST).contains(&numbers)) && !dims.is_empty();
        if !sane || past.element() != self.inputs[cache].element() {
            let what = format!("the state `{}` is not of a fixed size and of the caches' type", past.name);
            return Err(refuse::input(what).at(self.path));
        }
        Ok(State {
            past: past.name.clone(),
            present: present.name.clone(),
            dims: dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect(),
        })
    }
}
