use super::*;

const GIB: u64 = 1 << 30;

/// A driver's answers, made up.
#[derive(Clone, Default)]
struct Fake {
    memory: Option<(u64, u64)>,
    processes: Option<Vec<(u32, Option<u64>)>>,
    sliced: bool,
    slices: Vec<Fake>,
}

impl Card for Fake {
    fn memory(&self) -> Option<(u64, u64)> {
        self.memory
    }

    fn processes(&self) -> Option<Vec<(u32, Option<u64>)>> {
        self.processes.clone()
    }

    fn sliced(&self) -> bool {
        self.sliced
    }

    fn slices(&self) -> Vec<Box<dyn Card>> {
        self.slices.iter().map(|slice| Box::new(slice.clone()) as Box<dyn Card>).collect()
    }
}

fn fake(used: u64, processes: &[(u32, Option<u64>)]) -> Fake {
    Fake { memory: Some((used * GIB, 80 * GIB)), processes: Some(processes.to_vec()), ..Fake::default() }
}

const OURS: u32 = 7;

/// What is read of a device that held 10 GiB before this process used it, when 20 GiB are known to be ours.
fn read(card: Fake) -> (u64, Attribution, &'static str) {
    let runtime = || Some((35 * GIB, 79 * GIB));
    let gpu = Gpu { before: 10 * GIB, ..Gpu::new(Box::new(card), OURS, 0, runtime) };
    let reading = gpu.read(20 * GIB).unwrap();
    (reading.used / GIB, reading.attribution, reading.source)
}

#[test]
fn the_process_is_found_by_its_id() {
    let card = fake(40, &[(3, Some(5 * GIB)), (OURS, Some(24 * GIB))]);
    assert_eq!(read(card), (24, Attribution::Process, "nvml"));
}

#[test]
fn in_a_container_the_only_process_is_ours() {
    let card = fake(40, &[(91_234, Some(24 * GIB))]);
    assert_eq!(read(card), (24, Attribution::OnlyProcess, "nvml"));
}

#[test]
fn another_process_with_our_id_is_told_by_what_it_holds() {
    // Outside the container, id 7 is somebody who holds less than what we know to hold.
    let card = fake(40, &[(OURS, Some(2 * GIB)), (91_234, Some(24 * GIB))]);
    assert_eq!(read(card), (30, Attribution::Device, "nvml"));
}

#[test]
fn among_several_unknown_processes_the_device_counts() {
    let card = fake(40, &[(91_233, Some(5 * GIB)), (91_234, Some(24 * GIB))]);
    assert_eq!(read(card), (30, Attribution::Device, "nvml"));
}

#[test]
fn processes_without_figures_leave_the_device() {
    assert_eq!(read(fake(40, &[(OURS, None)])), (30, Attribution::Device, "nvml"));
    // Some drivers say the highest number there is, which the wrapper knows; one below it is no more plausible.
    assert_eq!(read(fake(40, &[(OURS, Some(u64::MAX - 1))])), (30, Attribution::Device, "nvml"));
    let refused = Fake { processes: None, ..fake(40, &[]) };
    assert_eq!(read(refused), (30, Attribution::Device, "nvml"));
}

#[test]
fn the_highest_number_is_no_figure() {
    let info = |used_gpu_memory| ProcessInfo {
        pid: OURS,
        used_gpu_memory,
        gpu_instance_id: None,
        compute_instance_id: None,
    };
    assert_eq!(process(&info(UsedGpuMemory::from(u64::MAX))), (OURS, None));
    assert_eq!(process(&info(UsedGpuMemory::from(GIB))), (OURS, Some(GIB)));
}

#[test]
fn a_driver_without_the_call_leaves_it_to_the_runtime() {
    let old = Fake { memory: None, ..fake(0, &[(OURS, Some(24 * GIB))]) };
    assert_eq!(read(old), (24, Attribution::Process, "cuda"));
    assert_eq!(read(Fake::default()), (25, Attribution::Device, "cuda"));
}

#[test]
fn what_is_ours_already_was_not_there_before() {
    let card = fake(40, &[]);
    let gpu = Gpu::new(Box::new(card), OURS, 25 * GIB, || None);
    assert_eq!((gpu.before, gpu.read(0).unwrap().used), (15 * GIB, 25 * GIB));
}

#[test]
fn nobody_tells_anything() {
    let gpu = Gpu::new(Box::new(Silent), OURS, 0, || None);
    assert_eq!(gpu.read(0), None);
}

#[test]
fn of_a_sliced_device_the_own_slice_is_asked() {
    let parent = |slices: &[Fake]| Fake { sliced: true, slices: slices.to_vec(), ..Fake::default() };
    let small = Fake { memory: Some((4 * GIB, 10 * GIB)), ..Fake::default() };
    let large = Fake { memory: Some((22 * GIB, 40 * GIB)), ..Fake::default() };
    let used = |card: Fake, total: u64| {
        let gpu = Gpu::new(Box::new(card), OURS, 0, move || Some((GIB, total * GIB)));
        let reading = gpu.read(0).unwrap();
        (reading.device_used.unwrap() / GIB, reading.source)
    };
    // The only one that this container may ask.
    assert_eq!(used(parent(std::slice::from_ref(&large)), 1), (22, "nvml"));
    // The one that knows this process.
    let knowing = Fake { processes: Some(vec![(OURS, Some(GIB))]), ..small.clone() };
    assert_eq!(used(parent(&[large.clone(), knowing]), 1), (4, "nvml"));
    // The one of the right size.
    assert_eq!(used(parent(&[small.clone(), large.clone()]), 39), (22, "nvml"));
    // Two of the same size, and none: the runtime is asked.
    assert_eq!(used(parent(&[large.clone(), large]), 40), (1, "cuda"));
    assert_eq!(used(parent(&[]), 40), (1, "cuda"));
}

#[test]
fn readings_stay_good_for_a_moment() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let runtime = move || Some((counted.fetch_add(1, Ordering::Relaxed), GIB));
    let gpu = Gpu::new(Box::new(Silent), OURS, 0, runtime);
    let first = gpu.read(0);
    *gpu.latest.lock().unwrap() = first.map(|reading| (Instant::now() + Duration::from_secs(60), reading));
    assert_eq!(gpu.read(0), first);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[test]
fn without_a_driver_the_card_is_silent() {
    if NVML.is_none() {
        assert_eq!(card("0000:00:00.0").memory(), None);
    }
}
