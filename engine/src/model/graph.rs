//! Reads the layout of a graph from its operations: which inputs are what is found by following them, not by name.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::{Element, Layout, refuse};
use crate::error::LoadError;

/// ONNX's number for int64.
const INT64: i32 = 7;
/// Heads, and numbers of a head, at most: more is no model but a damaged file.
const MOST: u64 = 1 << 16;
/// Planes of positions, at most: text, time, height and width.
const PLANES: u64 = 4;

/// Names and shapes of a graph's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wiring {
    /// Token ids, int64 `[batch, tokens]`.
    pub(crate) ids: String,
    /// Ones where there is a token, int64 `[batch, past + tokens]`. Graphs without attention need none.
    pub(crate) mask: Option<String>,
    /// Positions, where the graph asks for them.
    pub(crate) positions: Option<Positions>,
    /// Whether there is a past, bool `[1]`, where the graph has a branch for the first run.
    pub(crate) branch: Option<String>,
    /// Of a prompt, only the first part may be computed at once; what follows goes token by token. So it is where
    /// nothing shows that a run over several tokens goes on from a past as it does from none.
    pub(crate) whole: bool,
    /// How many logits are wanted, where the graph asks: its name and whether it is a scalar.
    pub(crate) logits_wanted: Option<(String, bool)>,
    /// Logits `[batch, tokens or fewer, vocab]`.
    pub(crate) logits: String,
    /// Whether logits come for the last token only.
    pub(crate) last_only: bool,
    /// Keys and values of each layer.
    pub(crate) caches: Vec<Cache>,
    /// States of layers that keep no keys and values.
    pub(crate) states: Vec<State>,
}

/// Positions of the tokens, int64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Positions {
    /// The graph's input.
    pub(crate) name: String,
    /// `[planes, batch, tokens]`, text having the same positions in all planes; `None`: `[batch, tokens]`.
    pub(crate) planes: Option<usize>,
}

/// What a layer carries from token to token, `[batch, dims..]`, however many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The graph's input.
    pub(crate) past: String,
    /// The graph's output.
    pub(crate) present: String,
    /// Sizes of one row.
    pub(crate) dims: Vec<usize>,
    /// Type of its numbers.
    pub(crate) element: Element,
    /// The output is the input's memory: the keys or values of a window of tokens, `[heads, window, head_dim]`.
    pub(crate) in_place: bool,
}

impl State {
    /// Bytes of one row.
    pub(crate) fn bytes(&self) -> usize {
        self.dims.iter().product::<usize>() * self.element.bytes()
    }

    /// Bytes that one row takes: before a run and after it, unless it is changed in place.
    pub(crate) fn held(&self) -> usize {
        if self.in_place { self.bytes() } else { 2 * self.bytes() }
    }
}

/// One side (keys or values) of a layer's cache, `[batch, heads, tokens, head_dim]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    /// The graph's input.
    pub(crate) past: String,
    /// The graph's output: the same memory, or the past with the new tokens behind it.
    pub(crate) present: String,
    /// Heads of keys and values.
    pub(crate) heads: usize,
    /// Numbers of one head and token.
    pub(crate) head_dim: usize,
}

/// What else the graph tells.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) wiring: Wiring,
    /// Element type of the caches, in ONNX's numbers; `None` where no cache grows with the tokens.
    pub(super) cache_element: Option<i32>,
    /// Element type of the logits.
    pub(super) logits_element: i32,
    /// Size of the vocabulary, where it is fixed.
    pub(super) vocab: Option<u64>,
    /// Positions that the rotary tables hold, where they are weights.
    pub(super) positions: Option<u64>,
    /// Query heads, where the graph tells.
    pub(super) heads: Option<u64>,
    pub(super) layout: Layout,
}

/// A graph with its indexes.
pub(super) struct Reader<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) path: &'a Path,
    makers: HashMap<&'a str, &'a NodeProto>,
    pub(super) inputs: HashMap<&'a str, &'a ValueInfoProto>,
    pub(super) outputs: HashMap<&'a str, &'a ValueInfoProto>,
    /// The input that chooses between a branch for the first run and this graph.
    branch: Option<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(graph: &'a GraphProto, path: &'a Path) -> Self {
        let weights: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let makers =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)));
        let by_name = |values: &'a [ValueInfoProto]| values.iter().map(|value| (value.name.as_str(), value));
        let inputs = by_name(&graph.input).filter(|(name, _)| !weights.contains(name)).collect();
        Self {
            graph,
            path,
            makers: makers.collect(),
            inputs,
            outputs: by_name(&graph.output).collect(),
            branch: None,
        }
    }

    /// Of which `branch` is the input that chooses this graph.
    pub(super) fn behind(self, branch: Option<String>) -> Self {
        Self { branch, ..self }
    }

    /// The layout; an error where it is none that can run. `head_dim` is used where the graph leaves it open.
    pub(super) fn read(&self, head_dim: Option<u64>) -> Result<Found, LoadError> {
        let layers: Vec<_> =
            self.graph.node.iter().filter(|node| node.op_type == "GroupQueryAttention").collect();
        let switched = layers.first().and_then(|layer| self.switch(layer.given(7)?)).is_some();
        refuse::layout(self.graph, &layers, switched).map_err(|refused| refused.at(self.path))?;
        let Some(first) = layers.first().copied() else { return self.concatenated() };
        let (mut caches, mut states) = (Vec::with_capacity(2 * layers.len()), Vec::new());
        for layer in &layers {
            for (input, output) in [(3, 1), (4, 2)] {
                let cache = self.cache(layer, input, output, head_dim)?;
                match self.window(layer)? {
                    Some(window) => states.push(self.windowed(cache, window)?),
                    None => caches.push(cache),
                }
            }
        }
        let lengths = first.given(5).map(|name| self.sources(name)).unwrap_or_default();
        let mask = lengths.into_iter().find(|name| self.is_int64(name, &[2]));
        states.extend(self.states()?);
        let wiring = self.wire(mask, caches, states)?;
        let layout = if wiring.states.is_empty() { Layout::SharedBuffer } else { Layout::Hybrid };
        let logits = self.outputs[wiring.logits.as_str()];
        Ok(Found {
            cache_element: wiring.caches.first().map(|cache| self.inputs[cache.past.as_str()].element()),
            logits_element: logits.element(),
            vocab: logits.dims().get(2).copied().flatten(),
            positions: first.given(7).and_then(|name| self.rotary_limit(name)),
            heads: Some(first.int("num_heads").and_then(|heads| u64::try_from(heads).ok()).unwrap_or(1)),
            layout,
            wiring,
        })
    }

    /// A cache that goes from a graph input through the layer to a graph output.
    fn cache(
        &self,
        layer: &NodeProto,
        input: usize,
        output: usize,
        head_dim: Option<u64>,
    ) -> Result<Cache, LoadError> {
        let past = layer.given(input).and_then(|name| self.inputs.get(name));
        let present = layer.output.get(output).and_then(|name| self.outputs.get(name.as_str()));
        let (Some(past), Some(present)) = (past, present) else {
            return Err(refuse::inner_cache().at(self.path));
        };
        let kv_heads = layer.int("kv_num_heads").and_then(|heads| u64::try_from(heads).ok());
        // Two numbers of 4 bits share a byte.
        let packed = if layer.int("kv_cache_bit_width") == Some(4) { 2 } else { 1 };
        self.sized(past, present, kv_heads, head_dim.map(|numbers| numbers / packed))
    }

    /// Tokens that a layer's cache keeps, where it keeps only the latest.
    fn window(&self, layer: &NodeProto) -> Result<Option<usize>, LoadError> {
        if layer.int("sliding_window_cache").unwrap_or(0) == 0 {
            return Ok(None);
        }
        let window = layer.int("local_window_size").and_then(|size| usize::try_from(size).ok());
        let window = window.filter(|size| (1..=MOST as usize).contains(size));
        window
            .map(Some)
            .ok_or_else(|| refuse::input("a layer keeps a window of unknown size".to_owned()).at(self.path))
    }

    /// A cache of so many tokens, however long the conversation is.
    fn windowed(&self, cache: Cache, window: usize) -> Result<State, LoadError> {
        let element = Element::from_onnx(self.inputs[cache.past.as_str()].element());
        let element = element.ok_or_else(|| refuse::element("keys and values").at(self.path))?;
        let Cache { past, present, heads, head_dim } = cache;
        Ok(State { past, present, dims: vec![heads, window, head_dim], element, in_place: true })
    }

    /// Positions that rotary tables hold: as many as they have rows, where they are weights, or as many as have the
    /// first of two tables.
    fn rotary_limit(&self, name: &str) -> Option<u64> {
        let rows = self.weight(name).and_then(|dims| dims.first().copied());
        rows.and_then(|rows| rows.try_into().ok()).or_else(|| self.switch(name))
    }

    /// Tokens up to which a table of two does not switch to the second: its rotary factors are those of all tokens
    /// then, however a prompt is cut.
    pub(super) fn switch(&self, name: &str) -> Option<u64> {
        let branch = self.makers.get(name).filter(|maker| maker.op_type == "If")?;
        let above = self.makers.get(branch.given(0)?).filter(|maker| maker.op_type == "Greater")?;
        let limit = self.makers.get(above.given(1)?).filter(|maker| maker.op_type == "Constant")?;
        u64::try_from(limit.number("value")?).ok().filter(|limit| *limit > 0)
    }

    /// A cache with its sizes; `heads` and `head_dim` are used where the graph leaves them open.
    pub(super) fn sized(
        &self,
        past: &ValueInfoProto,
        present: &ValueInfoProto,
        heads: Option<u64>,
        head_dim: Option<u64>,
    ) -> Result<Cache, LoadError> {
        let dims = past.dims();
        let sane = |number: &u64| (1..=MOST).contains(number);
        let heads = dims.get(1).copied().flatten().or(heads);
        let head_dim = dims.get(3).copied().flatten().or(head_dim);
        let (Some(heads), Some(head_dim)) = (heads.filter(sane), head_dim.filter(sane)) else {
            return Err(LoadError::Unsaid {
                folder: self.path.parent().unwrap_or(self.path).to_owned(),
                what: "the size of an attention head",
                add: "`model.decoder.head_size` to genai_config.json or `head_dim` to config.json",
            });
        };
        Ok(Cache {
            past: past.name.clone(),
            present: present.name.clone(),
            heads: usize::try_from(heads).unwrap_or(usize::MAX),
            head_dim: usize::try_from(head_dim).unwrap_or(usize::MAX),
        })
    }

    /// Finds what the other inputs and outputs are for.
    pub(super) fn wire(
        &self,
        mask: Option<&str>,
        caches: Vec<Cache>,
        mut states: Vec<State>,
    ) -> Result<Wiring, LoadError> {
        let refused = |what: String| refuse::input(what).at(self.path);
        let attends = !caches.is_empty() || states.iter().any(|state| state.in_place);
        if mask.is_none() && attends {
            return Err(refused("no attention mask gives the lengths of its rows".to_owned()));
        }
        let ids = self.ids(mask).ok_or_else(|| refused("no input holds token ids".to_owned()))?;
        let (mut positions, mut logits_wanted, mut whole) = (None, None, self.branch.is_some());
        for name in self.graph.input.iter().map(|value| value.name.as_str()) {
            let kept = caches.iter().any(|cache| cache.past == name) || states.iter().any(|s| s.past == name);
            let known = name == ids || Some(name) == mask || self.branch.as_deref() == Some(name) || kept;
            if known || !self.inputs.contains_key(name) {
                continue;
            }
            if positions.is_none() && self.is_int64(name, &[2]) {
                positions = Some(Positions { name: name.to_owned(), planes: None });
            } else if positions.is_none() && self.is_int64(name, &[3]) {
                positions = Some(self.planes(name)?);
            } else if logits_wanted.is_none() && self.is_int64(name, &[0, 1]) {
                logits_wanted = Some((name.to_owned(), self.is_int64(name, &[0])));
            } else if let Some(state) = self.named(name) {
                states.push(state);
                whole = true;
            } else {
                return Err(refused(format!("it is not known what its input `{name}` needs")));
            }
        }
        let logits = self.logits(&caches, &states)?;
        let one_row = self.outputs[logits].dims()[1] == Some(1);
        Ok(Wiring {
            ids: ids.to_owned(),
            mask: mask.map(str::to_owned),
            positions,
            branch: self.branch.clone(),
            whole,
            last_only: one_row || logits_wanted.is_some(),
            logits_wanted,
            logits: logits.to_owned(),
            caches,
            states,
        })
    }

    /// Positions in several planes.
    fn planes(&self, name: &str) -> Result<Positions, LoadError> {
        let planes = self.inputs[name].dims()[0].filter(|planes| (1..=PLANES).contains(planes));
        let planes = planes.and_then(|planes| usize::try_from(planes).ok());
        let unknown = || refuse::input(format!("its positions `{name}` have an unknown number of planes"));
        let planes = planes.ok_or_else(|| unknown().at(self.path))?;
        Ok(Positions { name: name.to_owned(), planes: Some(planes) })
    }

    /// The input that picks rows of the largest table: the embeddings.
    fn ids(&self, mask: Option<&str>) -> Option<&'a str> {
        let gathers = self.graph.node.iter().filter(|node| node.op_type.starts_with("Gather"));
        let picks = gathers.filter_map(|node| {
            let table = node
                .given(0)
                .and_then(|name| self.weight(name))
                .map_or(0, |dims| dims.iter().copied().fold(1, i64::saturating_mul));
            let picker = self.sources(node.given(1)?);
            let picker = picker.into_iter().find(|name| Some(*name) != mask && self.is_int64(name, &[2]))?;
            Some((table, picker))
        });
        picks.max_by_key(|(table, _): &(i64, _)| *table).map(|(_, picker)| picker)
    }

    /// The one output that is neither cache nor state.
    fn logits(&self, caches: &[Cache], states: &[State]) -> Result<&'a str, LoadError> {
        let kept = |name: &String| {
            caches.iter().any(|cache| cache.present == *name) || states.iter().any(|s| s.present == *name)
        };
        let mut rest = self.graph.output.iter().filter(|value| !kept(&value.name));
        match (rest.next(), rest.next()) {
            (Some(logits), None) if logits.dims().len() == 3 => Ok(&logits.name),
            _ => Err(refuse::input("it has no single output of logits".to_owned()).at(self.path)),
        }
    }

    /// The graph's inputs that a value is computed from.
    pub(super) fn sources(&self, name: &'a str) -> BTreeSet<&'a str> {
        let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![name]);
        while let Some(name) = open.pop().filter(|_| seen.len() <= self.graph.node.len()) {
            if let Some((input, _)) = self.inputs.get_key_value(name) {
                found.insert(*input);
            } else if let Some(maker) = self.makers.get(name).filter(|_| seen.insert(name)) {
                open.extend(maker.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
            }
        }
        found
    }

    pub(super) fn is_int64(&self, name: &str, ranks: &[usize]) -> bool {
        self.inputs
            .get(name)
            .is_some_and(|value| value.element() == INT64 && ranks.contains(&value.dims().len()))
    }

    fn weight(&self, name: &str) -> Option<&'a [i64]> {
        self.tensor(name).map(|tensor| tensor.dims.as_slice())
    }

    /// A weight of the graph.
    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.graph.initializer.iter().find(|tensor| tensor.name == name)
    }

    /// The operation that a value comes from.
    pub(super) fn maker(&self, name: &str) -> Option<&'a NodeProto> {
        self.makers.get(name).copied()
    }
}
