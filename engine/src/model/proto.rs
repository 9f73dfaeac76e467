//! The few fields of ONNX's protobuf that tell a model's layout. Weights are mapped, not read.

use std::fs::File;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use crate::error::LoadError;

/// A model file, of which only the graph is looked at.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
}

/// Nodes, weights, inputs and outputs.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

impl NodeProto {
    /// An integer attribute; `None` where it is left to its default.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute.iter().find(|a| a.name == name).map(|a| a.i)
    }

    /// A text attribute.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attribute.iter().find(|a| a.name == name).and_then(|a| std::str::from_utf8(&a.s).ok())
    }

    /// The one integer of an attribute that is a tensor.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let tensor = self.attribute.iter().find(|a| a.name == name)?.t.as_ref()?;
        let raw = <[u8; 8]>::try_from(tensor.raw_data.as_slice()).ok().map(i64::from_le_bytes);
        raw.filter(|_| tensor.data_type == 7).or_else(|| tensor.int64_data.first().copied())
    }

    /// An attribute that is a graph.
    pub(super) fn graph(&self, name: &str) -> Option<&GraphProto> {
        self.attribute.iter().find(|a| a.name == name)?.g.as_deref()
    }

    /// An input that is given, by its position.
    pub(super) fn given(&self, position: usize) -> Option<&str> {
        self.input.get(position).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// A setting of an operation.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int64, tag = "3")]
    pub(super) i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) s: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<ConstantProto>,
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) g: Option<Box<GraphProto>>,
}

/// A small constant; of large ones only the first numbers are of use.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ConstantProto {
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

/// A weight: its shape and where its bytes are. Those in the graph's own file are pages of it, which nobody reads before
/// they are asked for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) raw_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// A named input or output.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<TypeProto>,
}

impl ValueInfoProto {
    fn tensor(&self) -> Option<&TensorTypeProto> {
        self.r#type.as_ref()?.tensor_type.as_ref()
    }

    /// The element type, in ONNX's numbers; 0 where it is no tensor.
    pub(super) fn element(&self) -> i32 {
        self.tensor().map_or(0, |tensor| tensor.elem_type)
    }

    /// Dimensions, `None` where they are not fixed.
    pub(super) fn dims(&self) -> Vec<Option<u64>> {
        let shape = self.tensor().and_then(|tensor| tensor.shape.as_ref());
        let fixed = |dim: &DimensionProto| dim.dim_value.and_then(|value| u64::try_from(value).ok());
        shape.map(|shape| shape.dim.iter().map(fixed).collect()).unwrap_or_default()
    }
}

/// A type; only tensors are looked at.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<ShapeProto>,
}

/// Dimensions.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<DimensionProto>,
}

/// A dimension: a number, or a symbol which is not read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
}

/// Reads the graph of a model file. Weights inside the file are passed over, page by page untouched.
pub(super) fn read(path: &Path) -> Result<GraphProto, LoadError> {
    let failed = |e: std::io::Error| LoadError::Read { path: path.to_owned(), reason: e.to_string() };
    let damaged = |reason: String| LoadError::Damaged { path: path.to_owned(), reason };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    #[expect(
        unsafe_code,
        reason = "a file mapped for reading; whoever cuts it short while it loads breaks any reader"
    )]
    let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
    let model = ModelProto::decode(Bytes::from_owner(bytes))
        .map_err(|e| damaged(format!("it is no ONNX model ({e})")))?;
    let graph = model.graph.ok_or_else(|| damaged("it holds no graph".to_owned()))?;
    if graph.node.is_empty() || graph.input.is_empty() || graph.output.is_empty() {
        return Err(damaged("its graph has no nodes, inputs or outputs".to_owned()));
    }
    Ok(graph)
}
