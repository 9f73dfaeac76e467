//! Plimsoll beside other proxies, before one upstream, in one run: `make bench-proxy`.
//!
//! Arguments: the parts to measure (`1KB 32KB 256KB 1MB throughput streams memory start`; default: all), `--rounds N`,
//! `--block MS`, `--only NAME,NAME` for those with this in their names, which writes no results, `--plimsoll PATH` for another
//! build of the sidecar.

mod bare;
mod bodies;
mod measure;
mod plot;
mod process;
mod results;
mod subjects;
mod targets;
mod upstream;

use std::time::Duration;

use plimsoll_tests::{plimsoll, shared};

use bodies::SIZES;
use measure::Bench;
use results::Part;
use subjects::Stage;
use upstream::Upstream;

/// Parts besides the sizes.
const OTHERS: [&str; 4] = ["throughput", "streams", "memory", "start"];

fn main() {
    // `cargo bench` says that this is a benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [role, address, upstream] = arguments.as_slice()
        && role == "bare"
    {
        let [address, upstream] = [address, upstream].map(|text| text.parse().expect("an address"));
        return bare::serve(address, upstream);
    }
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number =
        |name: &str, default: u64| option(name).map_or(default, |text| text.parse().expect("a number"));
    let folder = shared::root().join("tests/bench/out/proxy");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let program = option("--plimsoll").map_or_else(|| plimsoll().get_program().into(), Into::into);
    let upstream = Upstream::start();
    let stage = Stage {
        upstream: upstream.address,
        plimsoll: program,
        folder: folder.clone(),
        only: option("--only").map(str::to_owned),
    };
    let block = Duration::from_millis(number("--block", 500));
    let bench = Bench { upstream, stage, rounds: number("--rounds", 10) as usize, block };
    let wanted = |name: &str| arguments.iter().any(|argument| argument == name);
    let names = SIZES.map(|size| size.name.replace(' ', ""));
    let all = !names.iter().map(String::as_str).chain(OTHERS).any(wanted);
    let wanted = |name: &str| all || wanted(name);
    // Fresh processes are measured before the others run.
    for name in ["start", "memory"].into_iter().filter(|name| wanted(name)) {
        println!("{name}");
        done(&bench, &if name == "start" { bench.start() } else { bench.memory() });
    }
    if names.iter().map(String::as_str).chain(["throughput", "streams"]).any(wanted) {
        let cast = bench.stage.start(&subjects::ALL);
        for (size, name) in SIZES.into_iter().zip(&names).filter(|(_, name)| wanted(name)) {
            println!("{name}");
            done(&bench, &bench.latency(&cast, size));
        }
        for name in ["throughput", "streams"].into_iter().filter(|name| wanted(name)) {
            println!("{name}");
            done(&bench, &if name == "streams" { bench.streams(&cast) } else { bench.throughput(&cast) });
        }
    }
    if bench.stage.only.is_some() {
        return;
    }
    let parts = results::load(&folder);
    results::write(&parts, &subjects::versions(&bench.stage.plimsoll));
    plot::write(&parts);
    targets::all(&parts).iter().for_each(|target| println!("{}", target.line()));
}

/// A part is kept as soon as it is there.
fn done(bench: &Bench, part: &Part) {
    if bench.stage.only.is_none() {
        results::keep(&bench.stage.folder, part);
    }
    println!("{}", results::shown(part));
}
