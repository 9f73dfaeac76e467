//! The measurements. Whatever is compared takes turns, block by block, so that what happens to the machine hits all.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_tests::figures::quantile;
use plimsoll_tests::load::{Outcome, Schedule, Target, closed_loop, open_loop};

use crate::bodies::{Conversation, SIZES, Size};
use crate::process::Tree;
use crate::results::{Part, Row};
use crate::subjects::{self, ALL, Cast, Governing, Stage, Subject, Who};
use crate::upstream::{EVENTS, Manner, Upstream, arrived};

/// Connections of an open loop: more than are ever busy while a proxy keeps up.
const CONNECTIONS: usize = 4;
/// Connections of a closed loop.
const CLOSED: usize = 16;
/// Streams that begin in a second; each takes a fifth of one.
const STREAMS: f64 = 25.0;
/// Connections for them.
const STREAMING: usize = 16;
/// Bodies of 1 MB in flight at once.
const IN_FLIGHT: usize = 32;
/// Starts of Plimsoll.
const STARTS: usize = 15;

/// What all measurements need.
pub(crate) struct Bench {
    pub(crate) upstream: Upstream,
    pub(crate) stage: Stage,
    pub(crate) rounds: usize,
    pub(crate) block: Duration,
}

/// What one of the compared did in its blocks.
#[derive(Default)]
struct Blocks {
    medians: Vec<f64>,
    all: Vec<f64>,
    cpu: Duration,
    asked: usize,
    rates: Vec<f64>,
    failed: usize,
}

impl Blocks {
    fn add(&mut self, outcome: &Outcome, cpu: Duration) {
        let times: Vec<f64> = outcome.latencies.iter().map(|time| millis(*time)).collect();
        self.medians.push(quantile(&times, 0.5).unwrap_or(f64::NAN));
        self.rates.push(times.len() as f64 / outcome.took.as_secs_f64());
        self.all.extend(times);
        self.cpu += cpu;
        self.asked += outcome.asked;
        self.failed += outcome.failed;
    }

    fn cpu_each(&self) -> f64 {
        millis(self.cpu) / self.asked.max(1) as f64
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(f64::NAN)
}

/// The median of what was more than in the same round of the first.
fn added(own: &[f64], first: &[f64]) -> f64 {
    median(&own.iter().zip(first).map(|(own, first)| own - first).collect::<Vec<_>>())
}

impl Bench {
    /// Has each take its turn in each round, the first in a round being another one each time.
    fn in_turn(&self, cast: &Cast, mut block: impl FnMut(usize, &Subject) -> Outcome) -> Vec<Blocks> {
        let mut blocks: Vec<Blocks> = cast.subjects.iter().map(|_| Blocks::default()).collect();
        for round in 0..self.rounds {
            for turn in 0..cast.subjects.len() {
                let place = (turn + round) % cast.subjects.len();
                let subject = &cast.subjects[place];
                let tree = subject.running.map(|at| &cast.running[at].tree);
                let before = tree.map(Tree::times);
                let outcome = block(round, subject);
                let used = tree.zip(before).map(|(tree, before)| tree.used_since(&before));
                blocks[place].add(&outcome, used.unwrap_or_default());
            }
        }
        blocks
    }

    /// An open loop at one size: latency and CPU.
    pub(crate) fn latency(&self, cast: &Cast, size: Size) -> Part {
        self.upstream.behave(Manner::AtOnce);
        let conversation = Conversation::new(size, 1, false);
        let turns = std::sync::atomic::AtomicUsize::new(0);
        let next = |_| conversation.grown(turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        // Whoever remembers conversations meets this one before it counts.
        for subject in &cast.subjects {
            let warm = Schedule::of(size.rate * subject.who.pace(), Duration::from_millis(500));
            open_loop(&subject.target, CONNECTIONS, warm, next, &|_, _| ());
        }
        let blocks = self.in_turn(cast, |_, subject| {
            let schedule = Schedule::of(size.rate * subject.who.pace(), self.block);
            open_loop(&subject.target, CONNECTIONS, schedule, next, &|_, _| ())
        });
        let direct = &blocks[0];
        let rows = cast.subjects.iter().zip(&blocks).map(|(subject, own)| {
            let p99 = |blocks: &Blocks| quantile(&blocks.all, 0.99).unwrap_or(f64::NAN);
            Row::of(
                subject.who.name(),
                &[
                    ("rate", size.rate * subject.who.pace()),
                    ("p50", median(&own.medians)),
                    ("added p50", added(&own.medians, &direct.medians)),
                    ("p99", p99(own)),
                    ("added p99", p99(own) - p99(direct)),
                    ("cpu", own.cpu_each()),
                    ("requests", own.all.len() as f64),
                    ("failed", own.failed as f64),
                ],
            )
        });
        let bytes = conversation.grown(0).len();
        Part::new(
            size.name,
            rows.collect(),
            cast,
            &[("bytes", bytes as f64), ("messages", size.messages as f64)],
        )
    }

    /// A closed loop of 1 KB: how many a second.
    pub(crate) fn throughput(&self, cast: &Cast) -> Part {
        self.upstream.behave(Manner::AtOnce);
        let conversation = Conversation::new(SIZES[0], 1, false);
        let blocks = self.in_turn(cast, |_, subject| {
            closed_loop(&subject.target, CLOSED, self.block, |turn| conversation.grown(turn))
        });
        let rows = cast.subjects.iter().zip(&blocks).map(|(subject, own)| {
            Row::of(
                subject.who.name(),
                &[
                    ("rate", median(&own.rates)),
                    ("p50", median(&own.medians)),
                    ("p99", quantile(&own.all, 0.99).unwrap_or(f64::NAN)),
                    ("cpu", own.cpu_each()),
                    ("failed", own.failed as f64),
                ],
            )
        });
        Part::new("throughput", rows.collect(), cast, &[("connections", CLOSED as f64)])
    }

    /// Streams of 1 KB requests: how late the first event comes, and the later ones.
    pub(crate) fn streams(&self, cast: &Cast) -> Part {
        self.upstream.behave(Manner::Streaming);
        let conversation = Conversation::new(SIZES[0], 1, true);
        let mut heard: Vec<(Vec<f64>, Vec<f64>, Vec<f64>)> = vec![Default::default(); cast.subjects.len()];
        let blocks = self.in_turn(cast, |_, subject| {
            let place =
                cast.subjects.iter().position(|one| one.who == subject.who).expect("it is one of them");
            let (first, later) = (Mutex::default(), Mutex::default());
            let listen = |piece: &[u8], since: Duration| listen(&first, &later, piece, since);
            // A stream lasts 0.2 s: all end a while after the block.
            let schedule = Schedule::of(STREAMS * subject.who.pace().max(0.4), self.block);
            let outcome =
                open_loop(&subject.target, STREAMING, schedule, |turn| conversation.grown(turn), &listen);
            let (first, later): (Vec<f64>, Vec<f64>) =
                (first.into_inner().expect("no panic"), later.into_inner().expect("no panic"));
            heard[place].0.push(median(&first));
            heard[place].1.push(median(&later));
            heard[place].2.extend(later);
            outcome
        });
        let (direct_first, direct_later) = (heard[0].0.clone(), heard[0].1.clone());
        let rows =
            cast.subjects.iter().zip(&blocks).zip(&heard).map(|((subject, own), (first, later, all))| {
                Row::of(
                    subject.who.name(),
                    &[
                        ("first", median(first)),
                        ("added first", added(first, &direct_first)),
                        ("between", median(later)),
                        ("added between", added(later, &direct_later)),
                        ("between p99", quantile(all, 0.99).unwrap_or(f64::NAN)),
                        ("cpu", own.cpu_each()),
                        ("events", all.len() as f64),
                        ("failed", own.failed as f64),
                    ],
                )
            });
        Part::new("streams", rows.collect(), cast, &[("rate", STREAMS), ("events", EVENTS as f64)])
    }

    /// Resident memory of fresh processes: idle, and with bodies of 1 MB in flight.
    pub(crate) fn memory(&self) -> Part {
        let mut rows = Vec::new();
        let mut missing = Vec::new();
        let whom = ALL.into_iter().filter(|who| !matches!(who, Who::Direct | Who::Plimsoll(Governing::Cut)));
        for who in whom {
            self.upstream.behave(Manner::AtOnce);
            let cast = self.stage.start(&[who]);
            match cast.subjects.first() {
                Some(subject) => rows.push(self.in_flight(subject, &cast.running[0].tree)),
                None => missing.extend(cast.missing),
            }
        }
        let cast = Cast { subjects: Vec::new(), running: Vec::new(), missing };
        Part::new("memory", rows, &cast, &[("bodies", IN_FLIGHT as f64)])
    }

    fn in_flight(&self, subject: &Subject, tree: &Tree) -> Row {
        let idle = tree.resident();
        self.upstream.behave(Manner::Together(IN_FLIGHT));
        let bodies: Vec<_> =
            (0..IN_FLIGHT).map(|salt| Conversation::new(SIZES[3], salt, false).grown(0)).collect();
        let bytes: usize = bodies.iter().map(bytes::Bytes::len).sum();
        let (peak, held) = thread::scope(|scope| {
            let asking: Vec<_> =
                bodies.into_iter().map(|body| scope.spawn(|| ask_once(&subject.target, body))).collect();
            let (mut peak, mut held) = (0, 0);
            while !asking.iter().all(thread::ScopedJoinHandle::is_finished) {
                held = held.max(self.upstream.held());
                peak = peak.max(tree.resident());
                thread::park_timeout(Duration::from_millis(2));
            }
            (peak, held)
        });
        let mega = |bytes: u64| bytes as f64 / 1e6;
        Row::of(
            subject.who.name(),
            &[
                ("idle", mega(idle)),
                ("peak", mega(peak)),
                ("bodies", mega(bytes as u64)),
                ("held", held as f64),
                ("ratio", peak as f64 / bytes as f64),
                ("ratio added", peak.saturating_sub(idle) as f64 / bytes as f64),
            ],
        )
    }

    /// From the start of Plimsoll's process, before an HTTP upstream, until it is ready and answers a chat.
    pub(crate) fn start(&self) -> Part {
        self.upstream.behave(Manner::AtOnce);
        let mut times: Vec<(f64, f64)> = (0..STARTS).map(|_| self.started()).collect();
        // The first one reads the program from the disk.
        times.remove(0);
        let (ready, asked): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
        let row = Row::of(
            "Plimsoll",
            &[
                ("ready", median(&ready)),
                ("slowest", quantile(&ready, 1.0).unwrap_or(f64::NAN)),
                ("first answer", median(&asked)),
            ],
        );
        let cast = Cast { subjects: Vec::new(), running: Vec::new(), missing: Vec::new() };
        Part::new("start", vec![row], &cast, &[("starts", (STARTS - 1) as f64)])
    }

    fn started(&self) -> (f64, f64) {
        let (data, admin) = (subjects::free(), subjects::free());
        let config = self.stage.folder.join("start.yaml");
        let upstream = format!("http://{}", self.stage.upstream);
        std::fs::write(&config, subjects::plimsoll_config(data, admin, &upstream))
            .expect("a file can be written");
        let mut command = Command::new(&self.stage.plimsoll);
        command.arg("serve").arg("--config").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut process = command.spawn().expect("the sidecar starts");
        while !is_ready(admin) {
            thread::park_timeout(Duration::from_micros(500));
        }
        let ready = millis(begun.elapsed());
        while !subjects::answers(&Target::new(data, &[])) {
            thread::park_timeout(Duration::from_micros(500));
        }
        let asked = millis(begun.elapsed());
        let _ = process.kill();
        let _ = process.wait();
        (ready, asked)
    }
}

/// `GET /readyz` says so.
fn is_ready(admin: std::net::SocketAddr) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { return false };
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn ask_once(target: &Target, body: bytes::Bytes) -> bool {
    plimsoll_tests::load::Connection::open(target).is_ok_and(|mut connection| connection.ask(body, |_| ()))
}

/// Keeps how late events were, in ms: the first since its request was due, the others since they left.
fn listen(first: &Mutex<Vec<f64>>, later: &Mutex<Vec<f64>>, piece: &[u8], since: Duration) {
    for (place, under_way) in arrived(piece) {
        let (times, time) = if place == 0 { (first, since) } else { (later, under_way) };
        times.lock().expect("no panic").push(millis(time));
    }
}
