//! The KV cache: which conversation is in which slot, and the memory behind it.

mod slots;
mod shape;
mod store;
mod host;
pub(crate) mod device;

pub(crate) use device::Device;
pub(crate) use host::Host;
pub(crate) use shape::Shape;
pub(crate) use slots::{Picked, SlotId, Slots, common};
pub(crate) use store::{Store, StoreError};
