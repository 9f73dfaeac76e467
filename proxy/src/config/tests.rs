//! Whole configurations: what loads, and what is said of what does not.

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A working directory with the folders and files that configurations name.
pub(super) fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(directory.path().join("model")).expect("a folder");
    fs::write(directory.path().join("ca.pem"), "x").expect("a file");
    directory
}

pub(super) fn sources(directory: &std::path::Path) -> Sources {
    Sources {
        file: "config.yaml".into(),
        environment: BTreeMap::new(),
        overrides: Vec::new(),
        directory: directory.to_owned(),
    }
}

pub(super) fn parse(text: &str) -> Result<Loaded, Faults> {
    Config::parse(text, &sources(directory().path()))
}

/// The faults of a text, without the file and the line that each begins with.
pub(super) fn faults(text: &str) -> String {
    let mut all = parse(text).expect_err("a fault");
    for fault in &mut all.faults {
        (fault.file, fault.line) = (None, None);
    }
    all.to_string()
}

/// The smallest configuration, with more lines.
pub(super) fn with(more: &str) -> String {
    format!("upstreams: {{a: {{engine: {{model: model}}}}}}\nroutes: [{{name: r, upstream: a}}]\n{more}")
}

/// An upstream over HTTP with more options, in one line.
pub(super) fn http(options: &str) -> String {
    format!("upstreams: {{h: {{url: 'http://h:1', {options}}}}}\nroutes: [{{name: r, upstream: h}}]")
}

#[test]
#[expect(clippy::too_many_lines, reason = "the snapshot shows every option")]
fn defaults_are_those_of_the_design() {
    let loaded = parse(&with("")).expect("valid");
    insta::assert_yaml_snapshot!(loaded.redacted, @r#"
    include: []
    listen:
      data: "127.0.0.1:7480"
      transparent: ~
      admin: "127.0.0.1:7490"
      socket_mode: "0660"
      admin_token: ~
      caller_header: ~
      hosts: []
      cors: ~
    keys: {}
    upstreams:
      a:
        engine:
          model: model
          name: ~
          device: auto
          memory: auto
          context: auto
          kv_dtype: auto
          slots: 8
          threads: ~
          queue: 256
          keep_alive: 5m
          checkpoints: ~
          offload:
            host: 2GiB
            disk: ~
          context_shift: ~
    routes:
      - name: r
        upstream: a
        policy: "off"
        mode: enforce
        allow_bypass: false
        on_unparsable: reject
        any_model: false
        window: ~
        read_tool: false
        keys: []
    policies: {}
    artifacts:
      memory: 64MiB
      disk: ~
      disk_limit: 1GiB
      ttl: 1h
    checkpoints:
      dir: ~
      per_caller: 100
    telemetry:
      otlp: ~
      service_name: plimsoll
      sample: 1
      trust_incoming: true
      trace_url: ~
      baggage: []
      capture_content: false
      gen_ai: latest
    limits:
      body: 32MiB
      head: 64KiB
      head_timeout: 30s
      body_idle: 30s
      answer_idle: 300s
      connections: 4096
      requests: 1024
      queue_wait: 30s
      drain: 30s
    explain:
      keep: 256
      capture: ~
    runtime:
      onnxruntime: ~
    log:
      format: text
      level: info
    "#);
}

#[test]
fn five_faults_are_five_faults() {
    let text = "
listen: { data: 127.0.0.1 }
upstreams:
  vllm: { url: http://vllm:8000, contxt: 32768, context: 8192 }
routes:
  - { name: default, upstream: vlm, policy: chats }
limits: { body: 32 potatoes }
";
    insta::assert_snapshot!(parse(text).expect_err("faults").to_string(), @r"
    `config.yaml` has 5 faults
    config.yaml:7: limits.body: `32 potatoes` is not a size
      hint: a number of bytes, or with a unit: `64KiB`, `32MiB`, `2GiB`
    config.yaml:2: listen.data: `127.0.0.1` is not an address
      hint: an IP address and a port: `127.0.0.1:7480`, `0.0.0.0:7480` or `[::1]:7480`; or a socket: `unix:/run/plimsoll/data.sock`
    config.yaml:6: routes[0].policy: no policy and no preset is named `chats`
      hint: did you mean `chat`?
    config.yaml:6: routes[0].upstream: no upstream is named `vlm`
      hint: did you mean `vllm`?
    config.yaml:4: upstreams.vllm.contxt: unknown option
      hint: did you mean `context`?
    ");
}

#[test]
fn faults_are_data_too() {
    let faults = parse(&with("limts: {}")).expect_err("a fault");
    insta::assert_json_snapshot!(faults, @r#"
    {
      "file": "config.yaml",
      "faults": [
        {
          "file": "config.yaml",
          "line": 3,
          "path": "limts",
          "message": "unknown option",
          "hint": "did you mean `limits`?"
        }
      ]
    }
    "#);
}

#[test]
fn a_file_that_is_not_there_is_a_fault() {
    let faults = Config::load(&sources(directory().path())).expect_err("a fault").to_string();
    assert!(faults.starts_with("`config.yaml` has 1 fault\nconfig.yaml: cannot be read: "), "{faults}");
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let text = "
upstreams: {h: {url: 'http://h:1', context: 4096}, i: {url: 'http://i:1'}}
routes: [{name: r, upstream: h, any_model: true}]
policies: {p: {extends: q}, q: {extends: chat}}
";
    let warnings = parse(text).expect("valid").warnings;
    let paths: Vec<&str> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["routes[0].any_model", "policies.p", "upstreams.i"]);
}

#[test]
fn words_that_older_yaml_takes_for_truth_values_are_words() {
    let text = with("").replace("upstream: a}", "upstream: a, mode: off, policy: off}");
    let loaded = parse(&text).expect("valid");
    assert_eq!(loaded.config.routes[0].mode, Mode::Off);
    assert!(loaded.config.policies["off"].is_empty());
}

/// A route's parts against requests.
#[test]
fn a_route_takes_what_matches_all_its_parts() {
    let text = with("").replace(
        "[",
        "[{name: q, upstream: a, match: {path: '/v1/*', header: {X-Team: 's*'}, model: 'qwen2.5*'}}, ",
    );
    let loaded = parse(&text).expect("valid");
    let matches = &loaded.config.routes[0].matches;
    let headers = |values: &[&str]| -> http::HeaderMap {
        let name = http::HeaderName::from_static("x-team");
        values.iter().map(|value| (name.clone(), value.parse().expect("a value"))).collect()
    };
    assert!(matches.asks_model());
    assert!(matches.takes("/v1/chat/completions", &headers(&["ops", "search"]), Some("qwen2.5-7b")));
    assert!(!matches.takes("/v2", &headers(&["search"]), Some("qwen2.5")));
    assert!(!matches.takes("/v1/", &headers(&["ops"]), Some("qwen2.5")));
    assert!(!matches.takes("/v1/", &headers(&["search"]), Some("qwen2x5")));
    assert!(!matches.takes("/v1/", &headers(&["search"]), None));
    assert!(loaded.config.routes[1].matches.takes("/", &headers(&[]), None));
}

/// The canary must not be seen, valid or not.
#[test]
fn secrets_are_never_shown() {
    let mut sources = sources(directory().path());
    sources.environment.insert("KEY".to_owned(), "canary".to_owned());
    sources.environment.insert("PLIMSOLL__LISTEN__ADMIN_TOKEN".to_owned(), "canary".to_owned());
    let directory = directory();
    sources.directory = directory.path().to_owned();
    let text = http("api_key: '${KEY}', tokenizer: model, ca_file: ca.pem")
        + "\ntelemetry: {otlp: {endpoint: 'http://c:1', headers: {a: '${KEY}'}}}";
    let loaded = Config::parse(&text, &sources).expect("valid");
    let Upstream::Http(upstream) = &loaded.config.upstreams["h"] else { panic!("not http") };
    assert_eq!(upstream.api_key.as_ref().map(Secret::expose), Some("canary"));
    assert_eq!(loaded.redacted["upstreams"]["h"]["api_key"], json!("[redacted]"));
    let shown = format!("{loaded:?}{}{:?}", loaded.redacted, loaded.warnings);
    assert!(!shown.contains("canary"), "{shown}");

    for wrong in [
        "api_key: [canary]",
        "api_key: {canary: 1}",
        "api_key: 'canary '",
        "api_kye: canary",
        "api_key: \"canary\\n\"",
    ] {
        let faults = parse(&http(wrong)).expect_err(wrong);
        let shown = format!("{faults}{faults:?}{}", json!(faults));
        assert!(!shown.replace("unknown option", "").contains("canary"), "{shown}");
    }
}

#[test]
fn a_secret_changes_the_hash_and_the_order_of_keys_does_not() {
    let of = |text: &str| parse(text).expect("valid").hash;
    assert_ne!(of(&http("api_key: a")), of(&http("api_key: b")));
    assert_eq!(of(&http("api_key: a, dialect: openai")), of(&http("dialect: openai, api_key: a")));
}

#[test]
fn what_needs_a_restart_is_named() {
    let directory = directory();
    let of = |text: &str| Config::parse(text, &sources(directory.path())).expect("valid").config;
    let old = of(&with(""));
    // The engine runs as it was started.
    let needs = |new: &str| {
        let new = of(new);
        let runs = |name: &str| match old.upstreams.get(name)? {
            Upstream::Engine(engine) => Some(&**engine),
            Upstream::Http(_) => None,
        };
        needs_restart(&old, &new, runs)
    };
    assert_eq!(needs(&with("")), Vec::<String>::new());
    let live = with("limits: {body: 1MiB, drain: 1s}")
        .replace("upstream: a}", "upstream: a, mode: shadow, policy: chat}");
    assert_eq!(needs(&live), Vec::<String>::new());
    let restart = with("listen: {data: '127.0.0.1:1'}\nlog: {level: debug}")
        .replace("{model: model}", "{model: model, slots: 2}");
    assert_eq!(needs(&restart), ["listen.data", "log", "upstreams.a.engine"]);
    // What goes or comes needs none.
    assert_eq!(needs(&http("")), Vec::<String>::new());
    assert_eq!(
        needs(&with("").replace("a: {", "b: {").replace("upstream: a", "upstream: b")),
        Vec::<String>::new()
    );
}

fn trees() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 11] = [
        "engine",
        "url",
        "routes",
        "upstreams",
        "match",
        "name",
        "steps",
        "policies",
        "auto",
        "${X}",
        "limits",
    ];
    let word = proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word.clone(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a file holds, and wherever it stands in a good one: an answer, never a panic.
    #[test]
    fn no_tree_panics(tree in trees(), section in proptest::sample::select(vec!["", "upstreams", "routes", "policies", "limits"])) {
        let mut whole: Value = json!({
            "upstreams": {"a": {"engine": {"model": "model"}}},
            "routes": [{"name": "r", "upstream": "a"}],
        });
        if section.is_empty() { whole = tree } else { whole[section] = tree }
        // JSON is YAML, but for a few escapes; those are refused, which is an answer too.
        let _ = parse(&whole.to_string());
    }

    #[test]
    fn no_text_panics(text in "[-a-z:{}\\[\\]\"'$ \n#&*|>]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_override_panics(path in "[a-z.\\[\\]0-9\"=]{0,20}", value in ".{0,10}") {
        let directory = directory();
        let mut sources = sources(directory.path());
        sources.overrides.push(format!("{path}={value}"));
        sources.environment.insert(format!("PLIMSOLL__{}", path.to_uppercase()), value);
        let _ = Config::parse(&with(""), &sources);
    }
}
