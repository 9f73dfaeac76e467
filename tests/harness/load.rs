//! A load generator: an open loop, whose requests come by a schedule whatever the server does, and a closed one.
//!
//! A latency counts from when the request was due. One that had to wait for a free connection, since the server was
//! slow with those before, has waited too: leaving that out is the coordinated omission of closed loops.

mod connection;

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use connection::{Connection, Target};

/// How much too late a thread may wake; it spins for the rest.
const SLACK: Duration = Duration::from_micros(120);

/// Requests that are asked on each connection before it counts.
const WARM: usize = 1;

/// Tells the time since the load began, and waits.
trait Clock {
    fn now(&self) -> Duration;
    fn wait_until(&self, due: Duration);
}

impl Clock for Instant {
    fn now(&self) -> Duration {
        self.elapsed()
    }

    fn wait_until(&self, due: Duration) {
        while let Some(long) = due.checked_sub(self.elapsed() + SLACK) {
            thread::park_timeout(long);
        }
        while self.elapsed() < due {
            std::hint::spin_loop();
        }
    }
}

/// When requests are due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Between two of them.
    pub gap: Duration,
    /// How many.
    pub count: usize,
}

impl Schedule {
    /// So many a second for so long, but one at least.
    pub fn of(rate: f64, time: Duration) -> Self {
        let count = (rate * time.as_secs_f64()).round() as usize;
        Self { gap: Duration::from_secs_f64(1.0 / rate), count: count.max(1) }
    }

    fn due(&self, request: usize) -> Duration {
        self.gap * u32::try_from(request).unwrap_or(u32::MAX)
    }
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of each request that was answered with 200, from when it was due to its answer's last byte.
    pub latencies: Vec<Duration>,
    /// Requests that had no such answer.
    pub failed: usize,
    /// All requests, those included that were asked before it counted.
    pub asked: usize,
    /// From the first request to the end of the last answer.
    pub took: Duration,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.asked += other.latencies.len() + other.failed + WARM;
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.took = self.took.max(other.took);
    }
}

/// One connection's share of a schedule: whichever connection is free takes the next request.
fn take_turns<B>(
    clock: &impl Clock,
    schedule: Schedule,
    next: &AtomicUsize,
    body: impl Fn(usize) -> B,
    mut ask: impl FnMut(B, Duration) -> bool,
) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= schedule.count {
            outcome.took = clock.now();
            return outcome;
        }
        let (body, due) = (body(request), schedule.due(request));
        clock.wait_until(due);
        if ask(body, due) {
            outcome.latencies.push(clock.now().saturating_sub(due));
        } else {
            outcome.failed += 1;
        }
    }
}

/// What a piece of an answer is told with: the piece, and how long before it the request was due.
pub type Heard<'a> = dyn Fn(&[u8], Duration) + Sync + 'a;

/// Asks by a schedule over so many connections. `body` makes the body of each request, before it is due; `heard` is told
/// of each piece of the answers.
///
/// # Panics
/// The target takes no connection.
pub fn open_loop(
    target: &Target,
    connections: usize,
    schedule: Schedule,
    body: impl Fn(usize) -> Bytes + Sync,
    heard: &Heard<'_>,
) -> Outcome {
    let next = AtomicUsize::new(0);
    on_connections(target, connections, &body, |connection, begun| {
        take_turns(begun, schedule, &next, &body, |body, due| {
            connection.ask(body, |piece| heard(piece, begun.elapsed().saturating_sub(due)))
        })
    })
}

/// Asks for so long over so many connections, each as soon as it has its answer.
///
/// # Panics
/// The target takes no connection.
pub fn closed_loop(
    target: &Target,
    connections: usize,
    time: Duration,
    body: impl Fn(usize) -> Bytes + Sync,
) -> Outcome {
    let next = AtomicUsize::new(0);
    on_connections(target, connections, &body, |connection, begun| {
        let mut outcome = Outcome::default();
        while begun.elapsed() < time {
            let asked = begun.elapsed();
            if connection.ask(body(next.fetch_add(1, Ordering::Relaxed)), |_| ()) {
                outcome.latencies.push(begun.elapsed() - asked);
            } else {
                outcome.failed += 1;
            }
        }
        outcome.took = begun.elapsed();
        outcome
    })
}

/// Runs `work` on so many warm connections at once, each on a thread of its own.
fn on_connections(
    target: &Target,
    connections: usize,
    body: &(impl Fn(usize) -> Bytes + Sync),
    work: impl Fn(&mut Connection, &Instant) -> Outcome + Sync,
) -> Outcome {
    let connections = NonZeroUsize::new(connections).expect("at least one connection").get();
    let (warm, ready) = (Barrier::new(connections + 1), Barrier::new(connections + 1));
    let begun = std::sync::OnceLock::new();
    let mut outcome = Outcome::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|place| {
                let (warm, ready, begun, work) = (&warm, &ready, &begun, &work);
                scope.spawn(move || {
                    let mut connection = Connection::open(target).expect("the target takes connections");
                    for round in 0..WARM {
                        connection.ask(body(usize::MAX - place * WARM - round), |_| ());
                    }
                    warm.wait();
                    ready.wait();
                    work(&mut connection, begun.get().expect("the clock was started"))
                })
            })
            .collect();
        warm.wait();
        begun.get_or_init(Instant::now);
        ready.wait();
        for thread in threads {
            outcome.add(thread.join().expect("the load generator works"));
        }
    });
    outcome
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Time passes only where somebody waits or works.
    struct Slow(Cell<Duration>);

    impl Slow {
        fn work(&self, time: Duration) {
            self.0.set(self.0.get() + time);
        }
    }

    impl Clock for Slow {
        fn now(&self) -> Duration {
            self.0.get()
        }

        fn wait_until(&self, due: Duration) {
            self.0.set(self.0.get().max(due));
        }
    }

    /// The latencies over one connection to a server that takes so long, in ms.
    fn latencies(gap: u64, times: &[u64]) -> Vec<u128> {
        let clock = Slow(Cell::default());
        let schedule = Schedule { gap: Duration::from_millis(gap), count: times.len() };
        let ask = |request: usize, _| {
            clock.work(Duration::from_millis(times[request]));
            true
        };
        let outcome = take_turns(&clock, schedule, &AtomicUsize::new(0), |request| request, ask);
        outcome.latencies.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn a_request_counts_from_when_it_was_due() {
        assert_eq!(latencies(10, &[1, 2, 3]), [1, 2, 3], "a server that keeps up");
        // A closed loop would tell 35, 1, 1, 1, 1: what waited behind the slow one was due long before.
        assert_eq!(latencies(10, &[35, 1, 1, 1, 1]), [35, 26, 17, 8, 1]);
    }

    #[test]
    fn failures_have_no_latency() {
        let clock = Slow(Cell::default());
        let schedule = Schedule::of(100.0, Duration::from_millis(50));
        assert_eq!((schedule.gap, schedule.count), (Duration::from_millis(10), 5));
        let ask = |request: usize, _| request.is_multiple_of(2);
        let outcome = take_turns(&clock, schedule, &AtomicUsize::new(0), |request| request, ask);
        assert_eq!((outcome.latencies.len(), outcome.failed), (3, 2));
        assert_eq!(outcome.took, Duration::from_millis(40));
    }
}
