//! libFuzzer over one target of `plimsoll_tests::fuzz`: `FUZZ_TARGET` names it, or `FUZZ_SEEDS` names a folder that the
//! seeds of all of them are written to. `make fuzz` builds it with coverage and runs every target.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plimsoll_tests::fuzz::{TARGETS, Target, target};

/// None where only seeds were to be written.
static CHOSEN: LazyLock<Option<&Target>> = LazyLock::new(|| {
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        write_seeds(Path::new(&folder));
        return None;
    }
    Some(target(&std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target")))
});

fn write_seeds(folder: &Path) {
    for target in &TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed can be written");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(chosen) = *CHOSEN {
        (chosen.run)(data);
    }
});
