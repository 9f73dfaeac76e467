//! Layers that carry a state of constant size from token to token in the place of keys and values.

use super::graph::{Reader, State};
use super::proto::{NodeProto, ValueInfoProto};
use super::{Element, refuse};
use crate::error::LoadError;

/// Operations that are known to go on from their state exactly, in parts of any length.
const KNOWN: [&str; 2] = ["CausalConvWithState", "LinearAttention"];
/// Numbers of a state, at most: more is no model but a damaged file.
const MOST: u64 = 1 << 28;

impl Reader<'_> {
    /// The states of all layers whose operations are known.
    pub(super) fn states(&self) -> Result<Vec<State>, LoadError> {
        let layers = self.graph.node.iter().filter(|node| KNOWN.contains(&node.op_type.as_str()));
        layers.map(|layer| self.state(layer)).collect()
    }

    /// A state that goes from a graph input through the layer to a graph output.
    fn state(&self, layer: &NodeProto) -> Result<State, LoadError> {
        let past = layer.given(3).and_then(|name| self.inputs.get(name));
        let present = layer.output.get(1).and_then(|name| self.outputs.get(name.as_str()));
        let (Some(past), Some(present)) = (past, present) else {
            return Err(refuse::inner_state().at(self.path));
        };
        let several = layer.int("state_window").unwrap_or(0) != 0;
        let state = fixed(past, present).filter(|_| !several);
        state.ok_or_else(|| {
            let what = format!("the state `{}` is not one of a fixed size in fp32 or fp16", past.name);
            refuse::input(what).at(self.path)
        })
    }

    /// A state by its name: what goes in as `past_conv.3` comes out as `present_conv.3`, of the same fixed size.
    pub(super) fn named(&self, past: &str) -> Option<State> {
        let present = self.outputs.get(format!("present{}", past.strip_prefix("past")?).as_str())?;
        fixed(self.inputs.get(past)?, present)
    }
}

fn fixed(past: &ValueInfoProto, present: &ValueInfoProto) -> Option<State> {
    let dims = past.dims().into_iter().skip(1).collect::<Option<Vec<u64>>>()?;
    let numbers = dims.iter().try_fold(1, |product: u64, dim| product.checked_mul(*dim))?;
    let element = Element::from_onnx(past.element()).filter(|element| element.is_float())?;
    let alike = present.element() == past.element() && present.dims().len() == past.dims().len();
    if dims.is_empty() || !(1..=MOST).contains(&numbers) || !alike {
        return None;
    }
    let dims = dims.into_iter().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
    Some(State { past: past.name.clone(), present: present.name.clone(), dims, element, in_place: false })
}
