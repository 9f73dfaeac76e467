//! The engine on real models, through its public API.

#[cfg(test)]
mod support;
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod folders;
#[cfg(test)]
mod forecast;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod offload;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod sampling;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod shifting;
#[cfg(test)]
mod dtype;
