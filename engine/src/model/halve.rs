//! A graph with 32-bit keys and values, made to keep them in 16 bits: its attention layers run in 16 bits, between two
//! casts, and all else stays as it is.
//!
//! The file is edited field by field: what is not edited keeps its bytes, whether this crate knows it or not.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use crate::error::LoadError;

/// Fields of ONNX's messages, by onnx.proto.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const GRAPH_VALUE: u64 = 13;
    pub(super) const NODE_INPUT: u64 = 1;
    pub(super) const NODE_OUTPUT: u64 = 2;
    pub(super) const NODE_OPERATION: u64 = 4;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_NAME: u64 = 1;
    pub(super) const ATTRIBUTE_INTEGER: u64 = 3;
    pub(super) const ATTRIBUTE_TYPE: u64 = 20;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const VALUE_TYPE: u64 = 2;
    pub(super) const TYPE_TENSOR: u64 = 1;
    pub(super) const TENSOR_ELEMENT: u64 = 1;
}

/// ONNX's numbers of types.
const FLOAT: u64 = 1;
const FLOAT16: u64 = 10;
/// An attribute that is one integer.
const INTEGER: u64 = 2;
/// Inputs of `GroupQueryAttention` that have its own type: query, key, value, rotary tables, bias, sinks.
const TYPED: [usize; 7] = [0, 1, 2, 7, 8, 10, 11];

/// The graph of a file, with 16-bit keys and values in these inputs and outputs.
pub(crate) fn halved(file: &Path, caches: &BTreeSet<String>) -> Result<Vec<u8>, LoadError> {
    let failed = |e: std::io::Error| LoadError::Read { path: file.to_owned(), reason: e.to_string() };
    let bytes = std::fs::read(file).map_err(failed)?;
    let damaged = || LoadError::Damaged {
        path: file.to_owned(),
        reason: "its fields are not those of an ONNX model".to_owned(),
    };
    let mut model = Vec::with_capacity(bytes.len() + (64 << 10));
    for found in fields(&bytes) {
        let found = found.ok_or_else(damaged)?;
        if found.number == field::MODEL_GRAPH {
            let graph = Halver { caches, casts: Vec::new(), cast: BTreeSet::new() };
            put_bytes(&mut model, found.number, &graph.graph(found.payload).ok_or_else(damaged)?);
        } else {
            model.extend_from_slice(found.whole);
        }
    }
    Ok(model)
}

struct Halver<'a> {
    caches: &'a BTreeSet<String>,
    /// Operations that are added.
    casts: Vec<u8>,
    /// Values that there is a 16-bit copy of.
    cast: BTreeSet<String>,
}

impl Halver<'_> {
    fn graph(mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut graph = Vec::with_capacity(bytes.len());
        for found in fields(bytes) {
            let found = found?;
            let edited = match found.number {
                field::GRAPH_NODE => self.node(found.payload)?,
                field::GRAPH_INPUT | field::GRAPH_OUTPUT | field::GRAPH_VALUE => self.value(found.payload)?,
                _ => None,
            };
            match edited {
                Some(edited) => put_bytes(&mut graph, found.number, &edited),
                None => graph.extend_from_slice(found.whole),
            }
        }
        graph.extend_from_slice(&self.casts);
        Some(graph)
    }

    /// An attention layer that reads and writes 16-bit copies; none of another operation.
    fn node(&mut self, bytes: &[u8]) -> Option<Option<Vec<u8>>> {
        let all = fields(bytes).collect::<Option<Vec<_>>>()?;
        let attends = |found: &Field<'_>| {
            found.number == field::NODE_OPERATION && found.payload == b"GroupQueryAttention"
        };
        if !all.iter().any(attends) {
            return Some(None);
        }
        let (mut node, mut inputs, mut outputs) = (Vec::with_capacity(bytes.len()), 0, 0);
        for found in all {
            match found.number {
                field::NODE_INPUT => {
                    let name = std::str::from_utf8(found.payload).ok()?;
                    let typed = TYPED.contains(&inputs) && !name.is_empty();
                    let name = if typed { self.half_of(name) } else { name.to_owned() };
                    put_bytes(&mut node, found.number, name.as_bytes());
                    inputs += 1;
                }
                field::NODE_OUTPUT if outputs == 0 => {
                    let (name, half) = with_half(std::str::from_utf8(found.payload).ok()?);
                    put_bytes(&mut node, found.number, half.as_bytes());
                    put_bytes(&mut self.casts, field::GRAPH_NODE, &cast(&half, &name, FLOAT));
                    outputs += 1;
                }
                _ => node.extend_from_slice(found.whole),
            }
        }
        Some(Some(node))
    }

    /// The 16-bit copy of a value, made once.
    fn half_of(&mut self, name: &str) -> String {
        let (name, half) = with_half(name);
        if !self.cast.contains(&name) {
            put_bytes(&mut self.casts, field::GRAPH_NODE, &cast(&name, &half, FLOAT16));
            self.cast.insert(name);
        }
        half
    }

    /// A cache of 16-bit numbers; none of another value.
    fn value(&self, bytes: &[u8]) -> Option<Option<Vec<u8>>> {
        let all = fields(bytes).collect::<Option<Vec<_>>>()?;
        let named = |found: &&Field<'_>| found.number == field::VALUE_NAME;
        let name = all.iter().find(named).and_then(|found| std::str::from_utf8(found.payload).ok());
        if !name.is_some_and(|name| self.caches.contains(name)) {
            return Some(None);
        }
        nested(bytes, &[field::VALUE_TYPE, field::TYPE_TENSOR]).map(Some)
    }
}

/// A message whose element type is another one, at the end of a path of fields.
fn nested(bytes: &[u8], path: &[u64]) -> Option<Vec<u8>> {
    let mut edited = Vec::with_capacity(bytes.len());
    for found in fields(bytes) {
        let found = found?;
        match path {
            [] if found.number == field::TENSOR_ELEMENT => put_number(&mut edited, found.number, FLOAT16),
            [next, rest @ ..] if found.number == *next => {
                put_bytes(&mut edited, found.number, &nested(found.payload, rest)?);
            }
            _ => edited.extend_from_slice(found.whole),
        }
    }
    Some(edited)
}

fn with_half(name: &str) -> (String, String) {
    (name.to_owned(), format!("{name}/plimsoll_half"))
}

/// An operation that gives a value another type.
fn cast(from: &str, to: &str, element: u64) -> Vec<u8> {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, field::ATTRIBUTE_NAME, b"to");
    put_number(&mut attribute, field::ATTRIBUTE_INTEGER, element);
    put_number(&mut attribute, field::ATTRIBUTE_TYPE, INTEGER);
    let mut node = Vec::new();
    put_bytes(&mut node, field::NODE_INPUT, from.as_bytes());
    put_bytes(&mut node, field::NODE_OUTPUT, to.as_bytes());
    put_bytes(&mut node, field::NODE_OPERATION, b"Cast");
    put_bytes(&mut node, field::NODE_ATTRIBUTE, &attribute);
    node
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    number: u64,
    /// With its tag and length.
    whole: &'a [u8],
    /// What it holds, where that has a length; else nothing.
    payload: &'a [u8],
}

/// The fields of a message; none where it is broken, and nothing after that.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let begin = at;
        let Some((number, payload)) = next(bytes, &mut at) else {
            at = bytes.len();
            return Some(None);
        };
        Some(Some(Field { number, whole: &bytes[begin..at], payload: &bytes[payload] }))
    })
}

/// Reads a field's number and where its payload is, and goes behind it.
fn next(bytes: &[u8], at: &mut usize) -> Option<(u64, Range<usize>)> {
    let tag = number(bytes, at)?;
    let length = match tag & 7 {
        0 => {
            number(bytes, at)?;
            0
        }
        1 => 8,
        2 => usize::try_from(number(bytes, at)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
    let payload = if tag & 7 == 2 { *at..end } else { end..end };
    *at = end;
    Some((tag >> 3, payload))
}

/// Reads a number of seven bits a byte.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn put_number(to: &mut Vec<u8>, field: u64, number: u64) {
    put(to, field << 3);
    put(to, number);
}

fn put_bytes(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put(to, field << 3 | 2);
    put(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "halve_tests.rs"]
mod tests;
