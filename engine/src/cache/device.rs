//! KV memory on a CUDA device, by the CUDA runtime that ONNX Runtime has loaded. It is found at run time: nothing
//! here is linked, and without CUDA it is an error with the reason.
#![expect(unsafe_code, reason = "calls the CUDA runtime through its C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};

use libloading::os::unix::{Library, RTLD_NOW};

use super::shape::Shape;
use super::store::{Place, Sharing, Store, StoreError};

/// The runtime of CUDA 13, which ONNX Runtime 1.31 is built for.
const LIBRARY: &str = "libcudart.so.13";
/// `cudaMemcpyHostToDevice`.
const HOST_TO_DEVICE: c_int = 1;
/// `cudaMemcpyDeviceToHost`.
const DEVICE_TO_HOST: c_int = 2;
/// `cudaMemcpyDeviceToDevice`.
const DEVICE_TO_DEVICE: c_int = 3;

type Status = c_int;
type Malloc = unsafe extern "C" fn(*mut *mut c_void, usize) -> Status;
type Free = unsafe extern "C" fn(*mut c_void) -> Status;
type SetDevice = unsafe extern "C" fn(c_int) -> Status;
type Synchronize = unsafe extern "C" fn() -> Status;
type ErrorString = unsafe extern "C" fn(Status) -> *const c_char;
type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> Status;
type GetPciBusId = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Status;
/// To, from, bytes, kind.
type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize, c_int) -> Status;
/// To, pitch, from, pitch, bytes of a line, lines, kind.
type Copy2d = unsafe extern "C" fn(*mut c_void, usize, *const c_void, usize, usize, usize, c_int) -> Status;

/// The functions that are used.
#[derive(Debug)]
struct Runtime {
    malloc: Malloc,
    free: Free,
    set_device: SetDevice,
    synchronize: Synchronize,
    error_string: ErrorString,
    copy: Copy,
    copy_2d: Copy2d,
    mem_get_info: MemGetInfo,
    get_pci_bus_id: GetPciBusId,
    /// Keeps the functions valid.
    _library: Library,
}

impl Runtime {
    fn load() -> Result<Self, StoreError> {
        let missing =
            |e: libloading::Error| StoreError { what: "loading libcudart.so.13", reason: e.to_string() };
        // SAFETY: loading the CUDA runtime runs only its own initialisers. The copy that ONNX Runtime has mapped is
        // taken where there is one: pointers of two runtimes must not be mixed.
        let library = unsafe {
            Library::open(Some(LIBRARY), RTLD_NOW | libc::RTLD_NOLOAD)
                .or_else(|_| Library::open(Some(LIBRARY), RTLD_NOW))
        };
        let library = library.map_err(missing)?;
        // SAFETY: the types above are those of cuda_runtime_api.h.
        unsafe {
            Ok(Self {
                malloc: *library.get::<Malloc>(b"cudaMalloc").map_err(missing)?,
                free: *library.get::<Free>(b"cudaFree").map_err(missing)?,
                set_device: *library.get::<SetDevice>(b"cudaSetDevice").map_err(missing)?,
                synchronize: *library.get::<Synchronize>(b"cudaDeviceSynchronize").map_err(missing)?,
                error_string: *library.get::<ErrorString>(b"cudaGetErrorString").map_err(missing)?,
                copy: *library.get::<Copy>(b"cudaMemcpy").map_err(missing)?,
                copy_2d: *library.get::<Copy2d>(b"cudaMemcpy2D").map_err(missing)?,
                mem_get_info: *library.get::<MemGetInfo>(b"cudaMemGetInfo").map_err(missing)?,
                get_pci_bus_id: *library.get::<GetPciBusId>(b"cudaDeviceGetPCIBusId").map_err(missing)?,
                _library: library,
            })
        }
    }

    fn check(&self, what: &'static str, status: Status) -> Result<(), StoreError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the runtime gives a text that lives as long as it does, for every number.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(StoreError { what, reason: text.to_string_lossy().into_owned() })
    }

    fn choose(&self, ordinal: u32) -> Result<c_int, StoreError> {
        let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        // SAFETY: takes a number.
        let status = unsafe { (self.set_device)(ordinal) };
        self.check("choosing the CUDA device", status)?;
        Ok(ordinal)
    }

    fn allocate(&self, bytes: usize) -> Result<*mut c_void, StoreError> {
        let mut address = std::ptr::null_mut();
        // SAFETY: the address is written only where the call succeeds.
        let status = unsafe { (self.malloc)(&raw mut address, bytes) };
        self.check("allocating KV memory on the CUDA device", status)?;
        Ok(address)
    }
}

/// Bytes of a CUDA device that are in use by everybody, and all of them.
pub(crate) fn usage(ordinal: u32) -> Option<(u64, u64)> {
    let runtime = Runtime::load().ok()?;
    runtime.choose(ordinal).ok()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: both are written to where the call succeeds.
    let status = unsafe { (runtime.mem_get_info)(&raw mut free, &raw mut total) };
    (status == 0).then(|| (total.saturating_sub(free) as u64, total as u64))
}

/// Bytes that are free on a CUDA device.
pub(crate) fn free(ordinal: u32) -> Option<u64> {
    usage(ordinal).map(|(used, total)| total - used)
}

/// Where a CUDA device sits: the one name that the driver's other library knows it by too.
pub(crate) fn bus_id(ordinal: u32) -> Option<String> {
    let runtime = Runtime::load().ok()?;
    let ordinal = runtime.choose(ordinal).ok()?;
    let mut text: [c_char; 32] = [0; 32];
    // SAFETY: at most as many bytes as there are, ended by a zero.
    let status = unsafe { (runtime.get_pci_bus_id)(text.as_mut_ptr(), 32, ordinal) };
    // SAFETY: as above; all zeros where nothing was written.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    (status == 0).then(|| text.to_string_lossy().into_owned())
}

/// Allocations for each layer and side, and one row to swap through. Used and dropped on one thread.
#[derive(Debug)]
pub(crate) struct Device {
    runtime: Runtime,
    shape: Shape,
    buffers: Vec<*mut c_void>,
    spare: *mut c_void,
}

impl Device {
    /// Allocates all rows on the device of this ordinal.
    pub(crate) fn new(shape: Shape, ordinal: u32) -> Result<Self, StoreError> {
        let runtime = Runtime::load()?;
        runtime.choose(ordinal)?;
        let mut device = Self { runtime, shape, buffers: Vec::new(), spare: std::ptr::null_mut() };
        // What is allocated before a failure is freed with `device`.
        for strip in 0..device.shape.strips.len() {
            let buffer = device.runtime.allocate(device.shape.buffer_bytes(strip))?;
            device.buffers.push(buffer);
        }
        let largest = (0..device.shape.strips.len()).map(|strip| device.shape.row_bytes(strip)).max();
        device.spare = device.runtime.allocate(largest.unwrap_or(1))?;
        Ok(device)
    }

    /// Copies the tokens `from..to` of every head from one row to another.
    fn copy_heads(&self, strip: usize, lines: (*mut c_void, *mut c_void), from: usize, to: usize) -> Status {
        let (token, pitch) = (self.shape.strips[strip].token, self.shape.head_bytes(strip));
        let (source, target) = lines;
        let (source, target) =
            (source.wrapping_byte_add(from * token), target.wrapping_byte_add(from * token));
        let heads = self.shape.strips[strip].heads;
        // SAFETY: both rows are whole rows of this object's own allocations, and `to` is within the capacity.
        unsafe {
            (self.runtime.copy_2d)(target, pitch, source, pitch, (to - from) * token, heads, DEVICE_TO_DEVICE)
        }
    }

    /// Waits for copies: ONNX Runtime works on a stream of its own.
    fn wait(&self) -> Result<(), StoreError> {
        // SAFETY: takes nothing.
        let status = unsafe { (self.runtime.synchronize)() };
        self.runtime.check("copying KV memory on the CUDA device", status)
    }
}

impl Store for Device {
    fn address(&self, strip: usize, row: usize) -> *mut c_void {
        self.buffers[strip].wrapping_byte_add(row * self.shape.row_bytes(strip))
    }

    fn swap(&mut self, a: usize, b: usize, tokens: usize) -> Result<(), StoreError> {
        if tokens == 0 {
            return Ok(());
        }
        for strip in 0..self.buffers.len() {
            let (a, b) = (self.address(strip, a), self.address(strip, b));
            for lines in [(a, self.spare), (b, a), (self.spare, b)] {
                let status = self.copy_heads(strip, lines, 0, tokens);
                self.runtime.check("copying KV memory on the CUDA device", status)?;
            }
        }
        self.wait()
    }

    fn copy(&mut self, source: usize, target: usize, from: usize, to: usize) -> Result<(), StoreError> {
        for strip in 0..self.buffers.len() {
            let lines = (self.address(strip, source), self.address(strip, target));
            let status = self.copy_heads(strip, lines, from, to);
            self.runtime.check("copying KV memory on the CUDA device", status)?;
        }
        self.wait()
    }

    fn read(&self, place: Place, bytes: &mut [u8]) -> Result<(), StoreError> {
        // What ONNX Runtime wrote on its own stream is there.
        self.wait()?;
        let source = self.buffers[place.strip].wrapping_byte_add(self.shape.offset(place));
        // SAFETY: the head lies in this object's own allocation, and `bytes` is no longer than it.
        let status =
            unsafe { (self.runtime.copy)(bytes.as_mut_ptr().cast(), source, bytes.len(), DEVICE_TO_HOST) };
        self.runtime.check("reading KV memory of the CUDA device", status)
    }

    fn write(&mut self, place: Place, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let target = self.buffers[place.strip].wrapping_byte_add(self.shape.offset(place) + at);
        // SAFETY: as above.
        let status =
            unsafe { (self.runtime.copy)(target, bytes.as_ptr().cast(), bytes.len(), HOST_TO_DEVICE) };
        self.runtime.check("writing KV memory of the CUDA device", status)?;
        self.wait()
    }

    fn bytes(&self) -> Option<u64> {
        let strips = 0..self.shape.strips.len();
        let spare = strips.clone().map(|strip| self.shape.row_bytes(strip)).max().unwrap_or(1);
        Some((strips.map(|strip| self.shape.buffer_bytes(strip)).sum::<usize>() + spare) as u64)
    }

    fn release(&mut self, _: usize, _: usize, _: usize) {
        // All of it was allocated in advance and stays until the engine ends.
    }

    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        Err("on a CUDA device prefixes are copied")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for buffer in self.buffers.drain(..).chain([self.spare]) {
            // SAFETY: allocated by the same runtime, freed once; freeing null does nothing.
            let _ = unsafe { (self.runtime.free)(buffer) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::shape::Strip;

    #[test]
    fn without_cuda_the_reason_is_told() {
        let shape =
            Shape { slots: 1, capacity: 32, strips: vec![Strip { heads: 1, head_dim: 32, token: 128 }] };
        if let Err(error) = Device::new(shape, 0) {
            assert!(!error.to_string().is_empty());
        }
    }
}
