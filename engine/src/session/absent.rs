//! In the place of a model that is unloaded: holds nothing, and every run fails.

use std::sync::Arc;

use super::{Interrupt, Logits, RunError, Session, Step};
use crate::cache::{Place, Sharing};

/// No model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absent;

impl Interrupt for Absent {
    fn set(&self, _: bool) {}
}

fn unloaded<T>() -> Result<T, RunError> {
    Err(RunError("the model is unloaded".to_owned()))
}

impl Session for Absent {
    fn prefill(&mut self, _: usize, _: usize, _: &[u32]) -> Result<(), RunError> {
        unloaded()
    }

    fn decode(&mut self, _: &[Step]) -> Result<(), RunError> {
        unloaded()
    }

    fn logits(&self, _: usize) -> Logits<'_> {
        Logits::F32(&[])
    }

    fn swap(&mut self, _: usize, _: usize, _: usize) -> Result<(), RunError> {
        unloaded()
    }

    fn copy(&mut self, _: usize, _: usize, _: usize, _: usize) -> Result<(), RunError> {
        unloaded()
    }

    fn read(&self, _: Place, _: &mut [u8]) -> Result<(), RunError> {
        unloaded()
    }

    fn write(&mut self, _: Place, _: &[u8]) -> Result<(), RunError> {
        unloaded()
    }

    fn sharing(&mut self) -> Result<&mut dyn Sharing, &'static str> {
        Err("the model is unloaded")
    }

    fn release(&mut self, _: usize, _: usize, _: usize) {}

    fn chunk(&self) -> usize {
        1
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(*self)
    }
}
