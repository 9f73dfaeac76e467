//! Values over memory that ONNX Runtime does not own, and how they are bound.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;

use ort::AsPointer;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::IoBinding;
use ort::sys;
use ort::value::TensorElementType;

use crate::model::Element;

/// A value over memory that is not its own; the memory must live for as long as a binding holds it.
pub(super) struct Borrowed(*mut sys::OrtValue);

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: made by `borrow`, released once.
        unsafe { (ort::api().ReleaseValue)(self.0) };
    }
}

pub(super) fn element(element: Element) -> TensorElementType {
    match element {
        Element::F32 => TensorElementType::Float32,
        Element::F16 => TensorElementType::Float16,
        Element::I8 => TensorElementType::Int8,
        Element::I4x2 => TensorElementType::Uint8,
        Element::F8 => TensorElementType::Float8E4M3FN,
    }
}

pub(super) fn memory_info(cuda: Option<u32>) -> ort::Result<MemoryInfo<'static>> {
    let device = if cuda.is_some() { AllocationDevice::CUDA } else { AllocationDevice::CPU };
    let id = i32::try_from(cuda.unwrap_or(0)).unwrap_or(i32::MAX);
    MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
}

/// A tensor over `bytes` at `address`. Dimensions must not ask for more.
pub(super) fn borrow(
    memory: &MemoryInfo<'_>,
    (address, bytes): (*mut c_void, usize),
    dims: &[i64],
    element: TensorElementType,
) -> ort::Result<Borrowed> {
    let mut value = null_mut();
    // SAFETY: the memory is the store's or the buffers', which outlive every binding (see `Onnx`).
    unsafe {
        let made = (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            address,
            bytes,
            dims.as_ptr(),
            dims.len(),
            element.into(),
            &raw mut value,
        );
        ort::Error::result_from_status(made)?;
    }
    Ok(Borrowed(value))
}

pub(super) fn bind_input(binding: &mut IoBinding, name: &CString, value: &Borrowed) -> ort::Result<()> {
    // SAFETY: both are alive; the binding keeps its own count of the value.
    unsafe {
        ort::Error::result_from_status((ort::api().BindInput)(binding.ptr_mut(), name.as_ptr(), value.0))
    }
}

pub(super) fn bind_output(binding: &mut IoBinding, name: &CString, value: &Borrowed) -> ort::Result<()> {
    // SAFETY: as above.
    unsafe {
        ort::Error::result_from_status((ort::api().BindOutput)(binding.ptr_mut(), name.as_ptr(), value.0))
    }
}
