//! Which caches hold keys that turn with their positions, and how: what a context shift must undo.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use prost::bytes::Bytes;

use super::folder::Folder;
use super::graph::{Cache, Found, Reader};
use super::proto::{NodeProto, TensorProto};
use super::rope::{Rope, Tables};
use super::{Element, Layout, weights};
use crate::error::NoShift;

/// How the keys of each cache turn, in the order of the graph's wiring; none for values, which do not.
pub(crate) type Turns = Vec<Option<Arc<Rope>>>;

impl Reader<'_> {
    /// How this graph's keys turn.
    ///
    /// # Errors
    /// They cannot be turned, or it is not known how.
    pub(super) fn turns(&self, found: &Found, kv_type: Element, files: &Folder) -> Result<Turns, NoShift> {
        let wiring = &found.wiring;
        if !wiring.states.is_empty() {
            return Err(NoShift::States);
        }
        if !kv_type.is_float() {
            return Err(NoShift::Quantised { kv_type });
        }
        if wiring.positions.as_ref().is_some_and(|positions| positions.planes.is_some()) {
            return Err(unknown("its positions lie in several planes"));
        }
        match found.layout {
            Layout::Concatenated => wiring.caches.iter().map(|cache| by_name(cache, files)).collect(),
            Layout::SharedBuffer | Layout::Hybrid => self.of_layers(&wiring.caches),
        }
    }

    /// Each layer has two caches, its keys and then its values.
    fn of_layers(&self, caches: &[Cache]) -> Result<Turns, NoShift> {
        let layers = self.graph.node.iter().filter(|node| node.op_type == "GroupQueryAttention");
        let (mut turns, mut known) = (Turns::new(), Vec::<(Rotary<'_>, Arc<Rope>)>::new());
        for (layer, cache) in layers.zip(caches.iter().step_by(2)) {
            let rotary = self.rotary(layer)?;
            let made = known.iter().find(|(other, _)| *other == rotary).map(|(_, rope)| rope.clone());
            let rope = match made {
                Some(rope) => rope,
                None => Arc::new(self.rope(rotary)?),
            };
            if rope.width() > cache.head_dim {
                return Err(unknown("its rotary tables are wider than its keys"));
            }
            known.push((rotary, rope.clone()));
            turns.extend([Some(rope), None]);
        }
        Ok(turns)
    }

    /// The tables by which a layer's keys are turned: its own, or those of the operation that its keys come from.
    fn rotary<'a>(&'a self, layer: &'a NodeProto) -> Result<Rotary<'a>, NoShift> {
        let flag = |node: &NodeProto, name: &str| node.int(name).unwrap_or(0) != 0;
        let own = || Some((layer, 7, 8, "rotary_interleaved"));
        let before = || {
            let maker = self.maker(layer.given(1)?).filter(|maker| maker.op_type == "RotaryEmbedding")?;
            let contributed = maker.domain == "com.microsoft";
            let (cos, sin) = if contributed { (2, 3) } else { (1, 2) };
            Some((maker, cos, sin, "interleaved"))
        };
        let found = if flag(layer, "do_rotary") { own() } else { before() };
        let (node, cos, sin, neighbours) = found.ok_or_else(|| unknown("a layer has no rotary embedding"))?;
        let (Some(cos), Some(sin)) = (node.given(cos), node.given(sin)) else {
            return Err(unknown("a layer's rotary embedding has no tables"));
        };
        Ok(Rotary { cos, sin, neighbours: flag(node, neighbours) })
    }

    fn rope(&self, rotary: Rotary<'_>) -> Result<Rope, NoShift> {
        if self.switch(rotary.cos).is_some() {
            return Err(NoShift::LongRope);
        }
        let table = |name| self.tensor(name).and_then(|tensor| Table::open(tensor, self.path));
        let (Some(cos), Some(sin)) = (table(rotary.cos), table(rotary.sin)) else {
            return Err(unknown("its rotary tables are no weights of the graph"));
        };
        let rope = Rope::of_tables(&Pair { cos, sin }, rotary.neighbours);
        rope.ok_or_else(|| unknown("its rotary tables are not those of constant frequencies"))
    }
}

fn unknown(what: &str) -> NoShift {
    NoShift::Unknown { what: what.to_owned() }
}

/// In a graph of plain operations a cache's name alone tells keys from values, and the folder how keys are turned.
fn by_name(cache: &Cache, files: &Folder) -> Result<Option<Arc<Rope>>, NoShift> {
    match cache.past.rsplit('.').next() {
        Some("value") => Ok(None),
        Some("key") => Rope::of_config(files.config(), cache.head_dim).map(|rope| Some(Arc::new(rope))),
        _ => Err(unknown("its caches' names do not tell keys from values")),
    }
}

/// The tables of a rotary embedding, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rotary<'a> {
    cos: &'a str,
    sin: &'a str,
    /// Numbers that turn together are neighbours.
    neighbours: bool,
}

/// A table of weights, of which rows are read one by one.
struct Table {
    rows: usize,
    columns: usize,
    data_type: i32,
    bytes: Source,
}

/// Where the bytes of a weight are.
enum Source {
    Graph(Bytes),
    File(File, u64),
}

impl Table {
    fn open(tensor: &TensorProto, graph: &Path) -> Option<Self> {
        let &[rows, columns] = tensor.dims.as_slice() else { return None };
        let bytes = match weights::location(tensor) {
            None => Source::Graph(tensor.raw_data.clone()),
            Some((name, offset)) => Source::File(File::open(graph.with_file_name(name)).ok()?, offset),
        };
        let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
        Some(Self { rows, columns, data_type: tensor.data_type, bytes })
    }

    fn row(&self, row: usize) -> Option<Vec<f32>> {
        let element = Element::from_onnx(self.data_type).filter(|element| element.is_float())?;
        let mut bytes = vec![0; self.columns * element.bytes()];
        let at = row * bytes.len();
        match &self.bytes {
            Source::Graph(whole) => {
                let end = at + bytes.len();
                bytes.copy_from_slice(whole.get(at..end)?);
            }
            Source::File(file, offset) => file.read_exact_at(&mut bytes, offset + at as u64).ok()?,
        }
        Some(element.numbers(&bytes))
    }
}

struct Pair {
    cos: Table,
    sin: Table,
}

impl Tables for Pair {
    fn rows(&self) -> usize {
        self.cos.rows.min(self.sin.rows)
    }

    fn row(&self, position: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let (cos, sin) = (self.cos.row(position)?, self.sin.row(position)?);
        (cos.len() == sin.len()).then_some((cos, sin))
    }
}
