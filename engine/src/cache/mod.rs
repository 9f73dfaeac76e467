//! The KV cache: which conversation is in which slot, and the memory behind it.

mod chains;
mod slots;
mod shape;
mod segments;
mod segment;
mod store;
mod maps;
mod pages;
mod host;
pub(crate) mod device;

pub(crate) use chains::Chains;
pub(crate) use device::Device;
pub(crate) use host::Host;
pub(crate) use pages::reserve;
pub(crate) use segment::{Segment, held, note_put_by, put_by, segment_bytes};
pub(crate) use segments::{Base, Extent, LEAST, SegmentId, Segments};
pub(crate) use shape::{PAGE, Shape, Strip};
pub(crate) use slots::{Donor, Picked, SlotId, Slots};
pub(crate) use store::{Place, Sharing, Store, StoreError};
