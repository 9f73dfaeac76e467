//! The bytes of a graph's weights, and whether the files that hold them are whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::proto::{GraphProto, TensorProto};
use crate::error::LoadError;

/// Bytes of all weights; an error where a file beside the graph is missing or too short.
pub(super) fn bytes(graph: &GraphProto, file: &Path) -> Result<u64, LoadError> {
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut total: u64 = 0;
    for tensor in tensors(graph) {
        let bytes = size(tensor);
        total = bytes.saturating_add(total);
        if let Some(location) = entry(tensor, "location") {
            let offset = offset(tensor);
            let length = entry(tensor, "length").and_then(|text| text.parse::<u64>().ok()).unwrap_or(bytes);
            let end = needed.entry(location).or_default();
            *end = (*end).max(offset.saturating_add(length));
        }
    }
    for (location, end) in needed {
        check(&file.with_file_name(location), end, file)?;
    }
    Ok(total)
}

/// The graph's file and those of its weights.
pub(super) fn files(graph: &GraphProto, file: &Path) -> impl Iterator<Item = PathBuf> {
    let locations: BTreeSet<_> =
        tensors(graph).into_iter().filter_map(|tensor| entry(tensor, "location")).collect();
    let beside: Vec<_> = locations.into_iter().map(|location| file.with_file_name(location)).collect();
    std::iter::once(file.to_owned()).chain(beside)
}

/// The weights of a graph and of its branches.
fn tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let inner =
        graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.g.as_deref());
    graph.initializer.iter().chain(inner.flat_map(tensors)).collect()
}

fn check(path: &Path, needed: u64, graph: &Path) -> Result<(), LoadError> {
    let Ok(found) = std::fs::metadata(path) else {
        let hint = format!("it holds the weights of `{}`: copy it into the same folder", graph.display());
        return Err(LoadError::Missing { path: path.to_owned(), hint });
    };
    if found.len() < needed {
        let reason = format!("it has {} bytes, the graph needs {needed}", found.len());
        return Err(LoadError::Damaged { path: path.to_owned(), reason });
    }
    Ok(())
}

/// The file beside the graph that holds a weight, and where it begins there; none where the graph's own does.
pub(super) fn location(tensor: &TensorProto) -> Option<(&str, u64)> {
    entry(tensor, "location").map(|name| (name, offset(tensor)))
}

fn offset(tensor: &TensorProto) -> u64 {
    entry(tensor, "offset").and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn size(tensor: &TensorProto) -> u64 {
    let dims = tensor.dims.iter().map(|&dim| u64::try_from(dim).unwrap_or(0));
    dims.fold(bits(tensor.data_type), u64::saturating_mul).div_ceil(8)
}

/// Bits of one element, by `TensorProto.DataType` of onnx.proto.
fn bits(data_type: i32) -> u64 {
    match data_type {
        1 | 6 | 12 => 32,
        4 | 5 | 10 | 16 => 16,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        _ => 8,
    }
}
