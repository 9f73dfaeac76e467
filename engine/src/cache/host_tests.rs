#![expect(unsafe_code, reason = "reads and writes the KV memory as a kernel does")]

use super::*;
use crate::cache::shape::Strip;

const HEADS: usize = 2;
const CAPACITY: usize = 64;
const TOKEN: usize = 128;

fn host(moves: bool) -> Host {
    let strip = Strip { heads: HEADS, head_dim: 32, token: TOKEN };
    let mut host = Host::new(Shape { slots: 3, capacity: CAPACITY, strips: vec![strip; 2] }).unwrap();
    host.moves &= moves;
    host
}

fn byte(strip: usize, row: usize, head: usize, token: usize) -> u8 {
    u8::try_from(1 + (strip * 83 + row * 59 + head * 31 + token) % 250).unwrap()
}

fn at(host: &Host, strip: usize, row: usize, head: usize, token: usize) -> *mut u8 {
    host.address(strip, row).cast::<u8>().wrapping_add((head * CAPACITY + token) * TOKEN)
}

fn each(mut visit: impl FnMut(usize, usize, usize)) {
    for strip in 0..2 {
        for head in 0..HEADS {
            for token in 0..40 {
                visit(strip, head, token);
            }
        }
    }
}

fn fill(host: &Host, row: usize) {
    // SAFETY: inside the reservation.
    each(|strip, head, token| unsafe {
        at(host, strip, row, head, token).write_bytes(byte(strip, row, head, token), TOKEN);
    });
}

/// Whether tokens `from..to` of a row hold what was filled into row `source`.
fn holds(host: &Host, row: usize, source: usize, from: usize, to: usize) -> bool {
    let mut all = true;
    each(|strip, head, token| {
        // SAFETY: inside the reservation.
        let found = unsafe { std::slice::from_raw_parts(at(host, strip, row, head, token), TOKEN) };
        let expected = byte(strip, source, head, token);
        all &= !(from..to).contains(&token) || found.iter().all(|&b| b == expected);
    });
    all
}

#[test]
fn rows_change_places() {
    for moves in [true, false] {
        let mut host = host(moves);
        fill(&host, 0);
        fill(&host, 2);
        for _ in 0..3 {
            host.swap(0, 2, 40).unwrap();
        }
        assert!(holds(&host, 0, 2, 0, 40) && holds(&host, 2, 0, 0, 40), "moves: {moves}");
    }
}

#[test]
fn this_kernel_moves_pages() {
    assert!(!cfg!(target_os = "linux") || host(true).moves);
}

#[test]
fn a_prefix_is_copied() {
    let mut host = host(true);
    fill(&host, 0);
    fill(&host, 1);
    host.copy(0, 1, 5, 20).unwrap();
    assert!(holds(&host, 1, 1, 0, 5) && holds(&host, 1, 0, 5, 20) && holds(&host, 1, 1, 20, 40));
}

#[test]
fn freed_pages_read_as_zeros_and_the_rest_stays() {
    let mut host = host(true);
    fill(&host, 1);
    // A page holds 32 tokens: the first one stays whole.
    host.release(1, 10, 40);
    assert!(holds(&host, 1, 1, 0, 32));
    // SAFETY: inside the reservation.
    assert_eq!(unsafe { at(&host, 0, 1, 1, 33).read() }, 0);
}
