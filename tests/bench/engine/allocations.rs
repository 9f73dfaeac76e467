//! Allocations of decoding steps, by an allocator that counts while it is told to.
#![expect(unsafe_code, reason = "counts what the program allocates, through the interface of an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use plimsoll_engine::{Event, Generate, Sampling};

use crate::ours::{self, demo};
use crate::report::{Report, count};

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes an allocation.
fn note() {
    if ON.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Tokens before it counts, and while it does. The mask grows at powers of two: at 512 and 1,024 tokens in between.
const WARM: usize = 300;
const TOKENS: usize = 1500;

pub(crate) fn run() -> Option<Report> {
    let engine = ours::load(&demo().folder, 2, 1);
    let allocations = ours::runtime().block_on(async {
        let prompt: Arc<[u32]> = ours::prompt(1, 20).into();
        let permit = engine.reserve_for(&prompt, 4000).await.expect("there is room");
        let sampling = Sampling::greedy();
        let request =
            Generate { prompt, max_tokens: 3900, sampling, ignore_eos: true, ..Generate::default() };
        let mut answer = engine.generate(request, permit);
        let mut tokens = 0;
        while tokens < WARM + TOKENS {
            let event = answer.next().await.expect("it goes on").expect("the model answers");
            tokens += usize::from(matches!(event, Event::Token(_)));
            ON.store(tokens >= WARM, Ordering::Relaxed);
        }
        ON.store(false, Ordering::Relaxed);
        ALLOCATIONS.load(Ordering::Relaxed)
    });
    let mut report = Report::new("Allocations of decoding steps");
    report.row(format!("in {} steps", count(TOKENS as f64)), allocations.to_string());
    report.most("allocations a step", allocations as f64 / TOKENS as f64, 0.0);
    report.note("Demo model, one stream that is read along: what Rust allocates in the whole process.");
    Some(report)
}
