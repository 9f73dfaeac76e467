use super::super::account::Holdings;
use super::super::fake::{FakeDevice, FakeHost, Figure};
use super::*;

const MIB: u64 = 1 << 20;

fn account(weights: u64) -> Arc<Account> {
    Arc::new(Account::new(Holdings { weights: weights * MIB, ..Holdings::default() }))
}

/// A device that holds 100 MiB before any engine does.
fn ledger() -> (Ledger, Figure) {
    let used = Figure::of(100 * MIB);
    (Ledger::new(Arc::new(FakeDevice(used.clone()))), used)
}

#[test]
fn engines_on_a_device_are_told_apart_from_the_rest() {
    let (ledger, used) = ledger();
    let (one, other) = (account(1000), account(500));
    used.add(1000 * MIB);
    ledger.enter(&one);
    used.add(500 * MIB);
    ledger.enter(&other);
    let shares = ledger.read();
    assert_eq!((shares.context / MIB, shares.unattributed, shares.epoch), (100, 0, 2));
    // A conversation of the other engine is nobody's leak; what nobody accounts for is.
    other.kv_used.store(30 * MIB, std::sync::atomic::Ordering::Relaxed);
    used.add(37 * MIB);
    assert_eq!(ledger.read().unattributed / MIB, 7);
    one.set_busy(true);
    assert!(!ledger.idle());
    drop(one);
    assert!(ledger.idle());
}

#[test]
fn unloading_gives_everything_back_or_is_a_leak() {
    let (ledger, used) = ledger();
    let load = || {
        let engine = account(1000);
        used.add(1000 * MIB);
        ledger.enter(&engine);
        engine
    };
    let engine = load();
    used.add(30 * MIB);
    engine.unload();
    used.set(130 * MIB);
    assert_eq!(ledger.leave(&engine).state, LeakState::Ok, "within the threshold");
    let engine = load();
    engine.unload();
    // 300 of 1000 MiB stay.
    used.set(430 * MIB);
    let report = ledger.leave(&engine);
    assert_eq!((report.state, report.component), (LeakState::Leak, Some("unattributed")));
    assert_eq!((report.growth / MIB, report.threshold / MIB), (300, 64));
    assert_eq!(ledger.read().unloads, report);
}

#[test]
fn main_memory_is_a_leak_when_a_second_unload_shows_it() {
    let host = FakeHost::default();
    host.used.set(100 * MIB);
    let ledger = Ledger::new(Arc::new(host.clone()));
    // Bytes that stay, and that the heap keeps, at each unload.
    let unload = |stays: u64, heap: u64| {
        let engine = account(1000);
        let before = host.used.get();
        host.used.add(1000 * MIB);
        ledger.enter(&engine);
        engine.unload();
        host.used.set(before + stays * MIB);
        host.heap.set(heap * MIB);
        let report = ledger.leave(&engine);
        (report.state, report.growth / MIB, report.samples)
    };
    assert_eq!(unload(0, 1100), (LeakState::Ok, 0, 0), "a heap that is trimmed is no leak");
    assert_eq!(unload(300, 0), (LeakState::Suspect, 300, 1));
    assert_eq!(unload(0, 0), (LeakState::Ok, 0, 0));
    assert_eq!(unload(300, 0), (LeakState::Suspect, 300, 1));
    assert_eq!(unload(300, 50), (LeakState::Leak, 300, 2));
    assert_eq!(unload(300, 0), (LeakState::Leak, 300, 3));
}

#[test]
fn growth_from_load_to_load_is_a_leak() {
    let (ledger, used) = ledger();
    let states: Vec<_> = (0..40)
        .map(|_| {
            let engine = account(1000);
            used.add(1000 * MIB);
            ledger.enter(&engine);
            engine.unload();
            // 5 MiB of each load stay, which no single load's threshold tells.
            used.set(used.get() - 995 * MIB);
            ledger.leave(&engine)
        })
        .collect();
    assert!(states[..10].iter().all(|report| report.state == LeakState::Ok), "{states:?}");
    let last = states[39];
    assert_eq!((last.state, last.component), (LeakState::Leak, Some("unattributed")));
}

#[test]
fn a_device_that_tells_nothing_has_no_leaks() {
    let ledger = Ledger::default();
    let engine = account(10);
    ledger.enter(&engine);
    let shares = ledger.read();
    assert_eq!((shares.device, shares.context, shares.unattributed), (None, 0, 0));
    assert_eq!(ledger.leave(&engine), LeakReport::default());
}
