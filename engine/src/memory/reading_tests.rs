use super::super::fake::{FakeArena, FakeDevice, Figure};
use super::super::leak::LeakState;
use super::*;

const MIB: u64 = 1 << 20;

/// An engine with 1,000 MiB of weights on a device that held 100 MiB before.
struct Fake {
    used: Figure,
    arena: FakeArena,
    meter: Meter,
}

fn fake(every: Duration) -> Fake {
    let (used, arena) = (Figure::of(1150 * MIB), FakeArena::default());
    arena.in_use.set(1000 * MIB);
    arena.held.set(1050 * MIB);
    let holdings = Holdings {
        weights: 1000 * MIB,
        arena: Some(Arc::new(arena.clone())),
        arena_loaded: 1000 * MIB,
        ..Holdings::default()
    };
    let ledger = Arc::new(Ledger::new(Arc::new(FakeDevice(used.clone()))));
    let meter = Meter::every(every, Budget::new(500 * MIB, 10, 100, 4, 4), holdings, ledger);
    Fake { used, arena, meter }
}

fn sizes(reading: &MemoryReading) -> Vec<u64> {
    reading.components().map(|(_, bytes)| bytes / MIB).collect()
}

#[test]
fn components_add_up_to_what_the_device_says() {
    let fake = fake(Duration::ZERO);
    let reading = fake.meter.read();
    assert_eq!(sizes(&reading), [1000, 0, 0, 50, 100, 0]);
    assert_eq!((reading.source, reading.attribution), ("engine+nvml", Some(Attribution::Process)));
    // A run: 30 MiB of keys and values, 20 MiB handed out of 70, and 5 MiB that nobody knows of.
    fake.meter.kv_used().store(30 * MIB, std::sync::atomic::Ordering::Relaxed);
    fake.arena.in_use.add(20 * MIB);
    fake.arena.held.add(20 * MIB);
    fake.used.add(55 * MIB);
    let reading = fake.meter.read();
    assert_eq!(sizes(&reading), [1000, 30, 20, 50, 100, 5]);
    assert_eq!(reading.total(), fake.used.get());
    fake.meter.unload();
    assert_eq!(sizes(&fake.meter.read()), [0; 6]);
}

#[test]
fn readings_are_taken_after_work_when_it_is_time() {
    let fake = fake(Duration::from_secs(3600));
    assert!(!fake.meter.rests(), "nothing has run yet");
    fake.meter.works();
    assert!(fake.meter.rests());
    fake.meter.sample();
    fake.meter.works();
    assert!(!fake.meter.rests(), "too soon");
    assert_eq!(fake.meter.read().leak.samples, 1);
}

#[test]
fn another_engine_at_work_puts_readings_off_and_its_load_begins_anew() {
    let fake = fake(Duration::ZERO);
    fake.meter.works();
    fake.meter.rests();
    (0..8).for_each(|_| fake.meter.sample());
    let other = Arc::new(Account::new(Holdings { weights: 10 * MIB, ..Holdings::default() }));
    fake.used.add(200 * MIB);
    fake.meter.0.ledger.enter(&other);
    other.set_busy(true);
    fake.meter.works();
    assert!(!fake.meter.rests());
    other.set_busy(false);
    assert!(fake.meter.rests());
    fake.meter.sample();
    let reading = fake.meter.read();
    assert_eq!((reading.leak.samples, reading.leak.state, reading.unattributed), (1, LeakState::Ok, 0));
}

#[test]
fn each_planted_leak_is_told_with_its_component() {
    type Plant = fn(&Fake);
    let leaks: [(&str, Plant); 3] = [
        ("workspace", |fake| {
            fake.arena.in_use.add(4 * MIB);
            fake.arena.held.add(4 * MIB);
            fake.used.add(4 * MIB);
        }),
        ("slack", |fake| {
            fake.arena.held.add(4 * MIB);
            fake.used.add(4 * MIB);
        }),
        ("unattributed", |fake| fake.used.add(4 * MIB)),
    ];
    for (component, plant) in leaks {
        let fake = fake(Duration::ZERO);
        for _ in 0..50 {
            plant(&fake);
            fake.meter.sample();
        }
        let leak = fake.meter.read().leak;
        assert_eq!((leak.state, leak.component), (LeakState::Leak, Some(component)));
    }
}

#[test]
fn conversations_that_are_kept_are_no_leak() {
    let fake = fake(Duration::ZERO);
    for turn in 1..60 {
        fake.meter.kv_used().store(turn * 8 * MIB, std::sync::atomic::Ordering::Relaxed);
        fake.used.add(8 * MIB);
        fake.meter.sample();
    }
    assert_eq!(fake.meter.read().leak.state, LeakState::Ok);
}
