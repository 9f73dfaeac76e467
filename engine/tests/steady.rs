//! Decoding allocates nothing for a token, whatever runs beside it.
#![expect(unsafe_code, reason = "counts what the program allocates, through the interface of an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
#[path = "engine/support.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use the rest")]
mod support;

#[test]
fn a_token_costs_no_allocation() {
    use plimsoll_engine::{Engine, Event};
    use support::{block_on, config, demo, greedy};

    const TOKENS: usize = 200;
    let engine = Engine::load(config(demo("model"))).unwrap();
    let allocations = block_on(async {
        let (one, other) = (engine.reserve(2000).await.unwrap(), engine.reserve(2000).await.unwrap());
        let _beside = engine.generate(greedy(&[7, 8, 9], 1000), other);
        let mut generation = engine.generate(greedy(&[5, 6, 7], 1000), one);
        let mut tokens = 0;
        let mut before = 0;
        while tokens < 2 * TOKENS {
            tokens += usize::from(matches!(generation.next().await, Some(Ok(Event::Token(_)))));
            if tokens == TOKENS {
                before = ALLOCATIONS.load(Ordering::Relaxed);
            }
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    // Both channels take memory for 32 events at a time, and the worker may be ahead of the reader.
    assert!(allocations < TOKENS / 4, "{allocations} allocations for {TOKENS} tokens of each conversation");
}
