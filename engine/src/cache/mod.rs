//! The KV cache: which conversation is in which slot, and the memory behind it.

mod chains;
mod slots;
mod shape;
mod store;
mod host;
pub(crate) mod device;

pub(crate) use chains::Chains;
pub(crate) use device::Device;
pub(crate) use host::{Host, reserve};
pub(crate) use shape::{PAGE, Shape, Strip};
pub(crate) use slots::{Picked, SlotId, Slots};
pub(crate) use store::{Place, Store, StoreError};
