use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::super::needs_restart;
use super::*;

fn text(drain: &str) -> String {
    format!(
        "upstreams: {{h: {{url: 'http://h:1'}}}}\nroutes: [{{name: r, upstream: h}}]\nlimits: {{drain: {drain}}}\n"
    )
}

fn sources(directory: &TempDir) -> Sources {
    Sources {
        file: directory.path().join("config.yaml"),
        environment: BTreeMap::new(),
        overrides: Vec::new(),
        directory: directory.path().to_owned(),
    }
}

fn started(directory: &TempDir) -> (Watch, mpsc::Receiver<Change>, Loaded) {
    let sources = sources(directory);
    let first = Config::load(&sources).expect("valid");
    let (watch, changes) = Watch::start(sources, &first).expect("a watch");
    (watch, changes, first)
}

/// As editors and careful tools write: beside it, then renamed.
fn replace(directory: &TempDir, text: &str) {
    let new = directory.path().join("config.yaml.new");
    fs::write(&new, text).expect("written");
    fs::rename(new, directory.path().join("config.yaml")).expect("renamed");
}

fn seconds(change: Option<Change>) -> u64 {
    change.expect("a change").expect("valid").config.limits.drain.as_secs()
}

#[test]
fn a_renamed_file_is_loaded_each_time() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), text("1s")).expect("written");
    let (watch, mut changes, first) = started(&directory);
    for drain in 2..5 {
        replace(&directory, &text(&format!("{drain}s")));
        assert_eq!(seconds(changes.blocking_recv()), drain);
    }
    let reloads = watch.reloads();
    assert_eq!((reloads.generation, reloads.refused, reloads.last_error), (4, 0, None));
    assert_ne!(reloads.hash, first.hash);
}

#[test]
fn a_file_written_in_place_is_loaded() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), text("1s")).expect("written");
    let (_watch, mut changes, _) = started(&directory);
    fs::write(directory.path().join("config.yaml"), text("2s")).expect("written");
    // What a reader sees between truncation and the last byte may be told first, as a fault.
    loop {
        match changes.blocking_recv().expect("a change") {
            Ok(loaded) => break assert_eq!(loaded.config.limits.drain.as_secs(), 2),
            Err(_) => continue,
        }
    }
}

#[test]
fn a_bad_file_leaves_the_last_good_one_and_is_reported() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), text("1s")).expect("written");
    let (watch, mut changes, first) = started(&directory);
    replace(&directory, "limits: {drain: soon}");
    let faults = changes.blocking_recv().expect("a change").expect_err("a fault");
    assert!(faults.to_string().contains("limits.drain"), "{faults}");
    let reloads = watch.reloads();
    assert_eq!((reloads.generation, reloads.refused, &reloads.hash), (1, 1, &first.hash));
    assert_eq!(reloads.last_error, Some(faults));

    replace(&directory, &text("3s"));
    let loaded = changes.blocking_recv().expect("a change").expect("valid");
    assert_eq!(watch.reloads().last_error, None);
    assert_eq!(watch.reloads().generation, 2);
    assert_eq!(needs_restart(&first.config, &loaded.config, |_| None), Vec::<String>::new());
}

/// Looks when it is told to.
fn loader(directory: &TempDir) -> Loader {
    let sources = sources(directory);
    let hash = Config::load(&sources).expect("valid").hash;
    let reloads = Reloads { generation: 1, hash, refused: 0, last_error: None };
    Loader {
        gone: None,
        seen: None,
        sources,
        reloads: Arc::new(Mutex::new(reloads)),
        send: mpsc::channel(1).0,
        watcher: Weak::new(),
        watched: BTreeSet::new(),
    }
}

fn last_error(loader: &Loader) -> Option<String> {
    let reloads = loader.reloads.lock().expect("nobody panicked");
    reloads.last_error.as_ref().map(|faults| faults.faults[0].message.clone())
}

#[test]
fn a_file_that_is_gone_is_told_until_it_is_back() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("config.yaml");
    fs::write(&file, text("1s")).expect("written");
    let mut loader = loader(&directory);
    assert!(loader.look().is_none());
    let fault = "limits: {drain: soon}";
    // What was said of the file before is said again.
    for content in [text("1s"), fault.to_owned()] {
        fs::write(&file, &content).expect("written");
        loader.look();
        let before = last_error(&loader);
        assert_eq!(before.is_some(), content == fault);
        fs::remove_file(&file).expect("removed");
        for _ in 0..2 {
            assert!(loader.look().is_none());
            assert_eq!(last_error(&loader).as_deref(), Some(GONE));
        }
        fs::write(&file, &content).expect("written");
        assert!(loader.look().is_none());
        assert_eq!(last_error(&loader), before);
    }
    fs::remove_file(&file).expect("removed");
    loader.look();
    fs::write(&file, text("2s")).expect("written");
    assert_eq!(seconds(loader.look()), 2);
    assert_eq!(last_error(&loader), None);
}

#[test]
fn a_file_that_is_too_much_leaves_the_last_good_one() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), text("1s")).expect("written");
    let mut loader = loader(&directory);
    let level = |n: u32| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..9).map(level).collect::<String>();
    for (content, part) in [(bomb, "more than 16 MiB"), ("#".repeat(5 << 20), "longer than 4 MiB")] {
        replace(&directory, &content);
        let faults = loader.look().expect("a change").expect_err("a fault").to_string();
        assert!(faults.contains(part), "{faults}");
        assert!(last_error(&loader).expect("told").contains(part));
    }
    replace(&directory, &text("1s"));
    assert!(loader.look().is_none());
    assert_eq!(last_error(&loader), None);
}

/// The kubelet's way: `config.yaml -> ..data/config.yaml`, `..data -> ..1`, and `..data` is swapped.
#[cfg(unix)]
#[test]
fn a_config_map_is_loaded_at_each_swap() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a folder");
    let version = |number: u64| {
        let folder = directory.path().join(format!("..{number}"));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("config.yaml"), text(&format!("{number}s"))).expect("written");
        symlink(format!("..{number}"), directory.path().join("..data_tmp")).expect("a link");
        fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).expect("swapped");
    };
    version(1);
    symlink("..data/config.yaml", directory.path().join("config.yaml")).expect("a link");
    let (_watch, mut changes, _) = started(&directory);
    for number in 2..5 {
        version(number);
        fs::remove_dir_all(directory.path().join(format!("..{}", number - 1))).expect("removed");
        assert_eq!(seconds(changes.blocking_recv()), number);
    }
}

#[test]
fn the_loader_ends_with_the_watch() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), text("1s")).expect("written");
    let (watch, mut changes, _) = started(&directory);
    drop(watch);
    assert!(changes.blocking_recv().is_none());
}

/// A configuration that includes the policies of a folder.
fn including() -> String {
    "include: [policies.d/*.yaml]\n".to_owned() + &text("1s")
}

fn policy(name: &str, keep: u32) -> String {
    format!("policies: {{ {name}: {{ steps: [ {{ trim_turns: {{ keep: {keep} }} }} ] }} }}\n")
}

/// The steps of a policy in force.
fn kept(change: Option<Change>, policy: &str) -> String {
    format!("{:?}", change.expect("a change").expect("valid").config.policies[policy])
}

#[test]
fn an_included_folder_is_watched() {
    let directory = tempfile::tempdir().expect("a folder");
    fs::write(directory.path().join("config.yaml"), including()).expect("written");
    let (watch, mut changes, _) = started(&directory);
    // The folder comes into being after the start, with its file, by one rename.
    let beside = directory.path().join("beside");
    fs::create_dir(&beside).expect("a folder");
    fs::write(beside.join("search.yaml"), policy("search", 3)).expect("written");
    fs::rename(&beside, directory.path().join("policies.d")).expect("renamed");
    assert!(kept(changes.blocking_recv(), "search").contains("keep: 3"));
    let put = |name: &str, text: String| {
        fs::write(directory.path().join("new"), text).expect("written");
        fs::rename(directory.path().join("new"), directory.path().join("policies.d").join(name))
            .expect("renamed");
    };
    put("search.yaml", policy("search", 4));
    assert!(kept(changes.blocking_recv(), "search").contains("keep: 4"));
    put("ops.yaml", policy("ops", 5));
    assert!(kept(changes.blocking_recv(), "ops").contains("keep: 5"));
    put("ops.yaml", policy("search", 6));
    let faults = changes.blocking_recv().expect("a change").expect_err("a name twice").to_string();
    let place = |name: &str| directory.path().join("policies.d").join(name).display().to_string();
    assert!(faults.contains(&format!("`search` stands in `{}:1` already", place("ops.yaml"))), "{faults}");
    assert!(faults.contains(&format!("{}:1: policies.search", place("search.yaml"))), "{faults}");
    assert_eq!((watch.reloads().generation, watch.reloads().refused), (4, 1));
    fs::remove_file(directory.path().join("policies.d/ops.yaml")).expect("removed");
    // One policy less than what is in force is a change, too.
    let loaded = changes.blocking_recv().expect("a change").expect("valid");
    assert_eq!(loaded.config.policies.keys().collect::<Vec<_>>(), ["off", "search"]);
    assert_eq!(watch.reloads().last_error, None);
}

/// A ConfigMap mounted beside the configuration, swapped as the kubelet does.
#[cfg(unix)]
#[test]
fn an_included_config_map_is_loaded_at_each_swap() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a folder");
    let mount = directory.path().join("policies.d");
    fs::create_dir(&mount).expect("a folder");
    let version = |number: u32| {
        let folder = mount.join(format!("..{number}"));
        fs::create_dir(&folder).expect("a folder");
        for team in ["ops", "search"] {
            fs::write(folder.join(format!("{team}.yaml")), policy(team, number)).expect("written");
        }
        symlink(format!("..{number}"), mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
    };
    version(1);
    for team in ["ops", "search"] {
        symlink(format!("..data/{team}.yaml"), mount.join(format!("{team}.yaml"))).expect("a link");
    }
    fs::write(directory.path().join("config.yaml"), including()).expect("written");
    let (watch, mut changes, first) = started(&directory);
    assert_eq!(first.included.len(), 2);
    for number in 2..5 {
        version(number);
        fs::remove_dir_all(mount.join(format!("..{}", number - 1))).expect("removed");
        let loaded = changes.blocking_recv().expect("a change").expect("valid");
        for team in ["ops", "search"] {
            let steps = format!("{:?}", loaded.config.policies[team]);
            assert!(steps.contains(&format!("keep: {number}")), "{steps}");
        }
    }
    assert_eq!((watch.reloads().generation, watch.reloads().refused), (4, 0));
}
