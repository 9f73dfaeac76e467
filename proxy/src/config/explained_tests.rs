//! What is said of each kind of bad value.

use super::tests::{faults, http, parse, with};

/// One bad value each, with what is said of it.
#[test]
fn bad_values_are_explained() {
    let cases = [
        with("listen: {data: 'localhost:80'}"),
        with("listen: {admin: '0.0.0.0:1'}"),
        with("listen: {admin: '127.0.0.1:7480'}"),
        with("listen: [1]"),
        with("limits: {connections: 0}"),
        with("limits: {connections: many}"),
        with("limits: {head: 1KiB}"),
        with("limits: {drain: 30}"),
        with("limits: {drain: soon}"),
        with("limits: {head_timeout: 0s}"),
        with("limits:"),
        with("log: {level: inof}"),
        with("log: {format: txt}"),
        with("telemetry: {sample: 2}"),
        with("telemetry: {otlp: {endpoint: 'collector:4317'}}"),
        with("telemetry: {otlp: {}}"),
        with("runtime: {onnxruntime: nowhere.so}"),
        "upstreams: {}\nroutes: []".to_owned(),
        "{}".to_owned(),
    ];
    insta::assert_snapshot!(explained(&cases), @r"
    listen.data: `localhost:80` is not an address
      hint: an IP address and a port: `127.0.0.1:7480`, `0.0.0.0:7480` or `[::1]:7480`; or a socket: `unix:/run/plimsoll/data.sock`
    listen.admin_token: is missing: `0.0.0.0:1` can be reached from other machines
      hint: set it, such as `${PLIMSOLL_ADMIN_TOKEN}`, or listen on 127.0.0.1
    listen.admin: `127.0.0.1:7480` is the data listener's address
      hint: the admin listener needs its own
    listen: expected a map, got a list
    limits.connections: must be at least 1, got `0`
    limits.connections: expected a whole number, got `many`
    limits.head: must be between 8KiB and 16MiB, got `1KiB`
    limits.drain: expected a text, got `30`
      hint: for example `30s`
    limits.drain: `soon` is not a time
      hint: a number and a unit: `500ms`, `30s`, `5m`
    limits.head_timeout: must be more than zero
    limits: is empty, expected a map
      hint: leave the key out to keep the default, or write `{}`
    log.level: `inof` is not a level
      hint: did you mean `info`?
    log.format: expected one of `text`, `json`, got `txt`
      hint: did you mean `text`?
    telemetry.sample: must be at most 1, got `2`
    telemetry.otlp.endpoint: is not an address
      hint: such as `http://127.0.0.1:8000`
    telemetry.otlp.endpoint: is missing
      hint: base address, without `/v1/traces`
    runtime.onnxruntime: file `nowhere.so` does not exist
      hint: relative paths start at the working directory
    routes: is empty
      hint: first match wins; the last route has no `match`
    upstreams: is empty
      hint: where requests go, by name: each has either `engine`, or `url` or `urls`
    routes: is missing
      hint: first match wins; the last route has no `match`
    upstreams: is missing
      hint: where requests go, by name: each has either `engine`, or `url` or `urls`
    ");
}

fn explained(cases: &[String]) -> String {
    let strip =
        |faults: String| faults.split_once('\n').map(|(_, faults)| faults.to_owned()).unwrap_or(faults);
    cases.iter().map(|case| strip(faults(case))).collect::<Vec<_>>().join("\n")
}

#[test]
fn bad_engines_are_explained() {
    let engine = |options: &str| {
        format!("upstreams: {{a: {{engine: {{{options}}}}}}}\nroutes: [{{name: r, upstream: a}}]")
    };
    let cases = [
        engine("model: nowhere"),
        engine("model: ca.pem"),
        engine(""),
        engine("model: 5"),
        engine("model: {}"),
        engine("model: {gpu: model}"),
        engine("model: {cpu: model}, device: cuda"),
        engine("model: model, device: gpu"),
        engine("model: model, memory: 101%"),
        engine("model: model, context: 12"),
        engine("model: model, context: big"),
        engine("model: model, slots: -1"),
        engine("model: model, threads: 1.5"),
    ];
    insta::assert_snapshot!(explained(&cases), @r"
    upstreams.a.engine.model: folder `nowhere` does not exist
      hint: relative paths start at the working directory
    upstreams.a.engine.model: folder `ca.pem` is not a folder
      hint: relative paths start at the working directory
    upstreams.a.engine.model: is missing
      hint: model folder (`*.onnx`, tokenizer, chat template, config), or one a device: `{cpu: .., cuda: ..}`
    upstreams.a.engine.model: expected a text or a map, got `5`
      hint: for example `engine/demo/model`
    upstreams.a.engine.model: names no folder
      hint: `{cpu: FOLDER, cuda: FOLDER}`, or one of the two
    upstreams.a.engine.model.gpu: unknown option
      hint: did you mean `cpu`?
    upstreams.a.engine.model.cuda: is missing: `device` asks for cuda
    upstreams.a.engine.device: `gpu` is not a device
      hint: one of `auto`, `cpu`, `cuda`, `cuda:0`
    upstreams.a.engine.memory: `101%` is not an amount of memory
      hint: `auto`, a size such as `6GiB`, or a share from `1%` to `100%`
    upstreams.a.engine.context: must be at least 256 tokens, got 12
    upstreams.a.engine.context: `big` is not a number of tokens
      hint: `auto`, or a whole number such as 4096
    upstreams.a.engine.slots: must be at least 1, got `-1`
    upstreams.a.engine.threads: expected a whole number, got `1.5`
    ");
}

#[test]
fn bad_upstreams_are_explained() {
    let cases = [
        http("engine: {model: model}"),
        http("context: 12"),
        http("ca_file: nowhere.pem"),
        http("api_key: ''"),
        http("api_key: \"a\\n\""),
        http("dialect: gemini"),
        "upstreams: {h: {}}\nroutes: [{name: r, upstream: h}]".to_owned(),
        "upstreams: {h: {ulr: 'http://h'}}\nroutes: [{name: r, upstream: h}]".to_owned(),
        "upstreams: {h: {url: 'ftp://h'}}\nroutes: [{name: r, upstream: h}]".to_owned(),
        "upstreams: {h: {url: 'http://user:canary@h'}}\nroutes: [{name: r, upstream: h}]".to_owned(),
        "upstreams: {a: {engine: {model: model}, context: 4096}}\nroutes: [{name: r, upstream: a}]"
            .to_owned(),
        "upstreams: {'a b': {engine: {model: model}}}\nroutes: [{name: r, upstream: 'a b'}]".to_owned(),
    ];
    insta::assert_snapshot!(explained(&cases), @r#"
    upstreams.h: has both `engine` and `url`
      hint: make them two upstreams
    upstreams.h.context: must be at least 256 tokens, got 12
    upstreams.h.ca_file: file `nowhere.pem` does not exist
      hint: relative paths start at the working directory
    upstreams.h.api_key: is empty
      hint: sent to `url` as `Authorization: Bearer`, or as `x-api-key` where its dialect is `anthropic`, in place of the caller's. Default: the caller's is passed on
    upstreams.h.api_key: has a character that cannot stand in a header
      hint: look for a space or a line break at an end of it
    upstreams.h.dialect: expected one of `openai`, `anthropic`, `ollama`, got `gemini`
    upstreams.h: has neither `engine` nor `url`
      hint: `engine: {model: FOLDER}` runs a model here, `url: http://HOST:PORT` forwards to a server
    upstreams.h.ulr: unknown option
      hint: did you mean `url`?
    upstreams.h.url: must begin with `http://` or `https://`
    upstreams.h.url: must not hold credentials
      hint: put them in `api_key` or `headers`
    upstreams.a.context: belongs to an upstream with a `url`; this one has an `engine`
      hint: write it inside `engine`
    upstreams."a b": `a b` cannot be a name
      hint: names stand in headers and metrics: ASCII letters, digits, `.`, `_` and `-`
    "#);
}

#[test]
fn bad_routes_are_explained() {
    let routes = |routes: &str| {
        format!(
            "upstreams: {{a: {{engine: {{model: model, context: 2048}}}}, h: {{url: 'http://h:1'}}}}\nroutes: [{routes}]"
        )
    };
    let cases = [
        routes("{upstream: a}"),
        routes("{name: r, upstream: a, match: {path: '/*'}}"),
        routes("{name: q, upstream: a}, {name: r, upstream: a}"),
        routes("{name: r, upstream: a, match: {path: '/*'}}, {name: r, upstream: a}"),
        routes("{name: r, upstream: a, match: {}}, {name: s, upstream: a}"),
        routes("{name: r, upstream: a, match: {path: '[a'}}, {name: s, upstream: a}"),
        routes("{name: r, upstream: a, match: {header: {'x team': a}}}, {name: s, upstream: a}"),
        routes("{name: r, upstream: a, match: {modle: a}}, {name: s, upstream: a}"),
        routes("{name: r, upstream: a, on_unparsable: pass}"),
        routes("{name: r, upstream: a, window: 4096}"),
        routes("{name: r, upstream: h, policy: chat}"),
        routes("{name: r, upstream: h, mode: true}"),
        routes("nonsense"),
    ];
    insta::assert_snapshot!(explained(&cases), @r#"
    routes[0].name: is missing
      hint: unique name; the `x-plimsoll-route` header and a label of metrics
    routes[0].match: the last route must take every request
      hint: add a last route without `match`, for the requests that no route takes
    routes[0].match: is missing: routes[1] would never be reached
      hint: say what it takes, or move it to the end
    routes[1].name: `r` is the name of routes[0] already
      hint: names are unique
    routes[0].match: is empty
      hint: which requests a route takes. In patterns `*` stands for any text, `?` for one character
    routes[0].match.path: `[a` is not a pattern: unclosed character class; missing ']'
      hint: `*` any text, `?` one character, `[ab]` one of these, `{a,b}` either
    routes[0].match.header."x team": `x team` is not the name of a header
      hint: such as `x-team`
    routes[0].match.modle: unknown option
      hint: did you mean `model`?
    routes[0].on_unparsable: upstream `a` is an engine, which reads nothing but JSON
      hint: `reject`
    routes[0].window: 4096 tokens are more than the 2048 of upstream `a`
    upstreams.h.context: is missing: policy `chat` of route `r` needs the window
      hint: the model's window in tokens, such as 32768; here, or as the route's `window`
    routes[0].mode: expected one of `enforce`, `shadow`, `off`, got `true`
    routes[0]: expected a map, got `nonsense`
    "#);
}

#[test]
fn bad_policies_are_explained() {
    let policy = |policy: &str| {
        with(&format!("policies: {{p: {policy}}}")).replace("upstream: a}", "upstream: a, policy: p}")
    };
    let cases = [
        policy("{steps: [{cap_tool: {}}]}"),
        policy("{steps: [cap_tool]}"),
        policy("{steps: [{cap_tool_output: {max_tokns: 5}}]}"),
        policy("{steps: [{cap_tool_output: {max_tokens: lots}}]}"),
        policy("{steps: [{cap_tool_output: {}, trim_turns: {}}]}"),
        policy("{steps: [{}]}"),
        policy("{steps: [7]}"),
        policy("{steps: {}}"),
        policy("{steps: [trim_turns, trim_turns]}"),
        policy("{steps: [{fit_context: {high: 7}}]}"),
        policy("{extends: chta}"),
        policy("{extends: p2}, p2: {extends: p}"),
        policy("[trim_turns]"),
        policy("{steps: [{summarize: {with: engin}}]}"),
        policy("{steps: [{trim_turns: }]}"),
        http("context: 4096").replace("upstream: h", "upstream: h, policy: p")
            + "\npolicies: {p: {steps: [{summarize: {with: engine}}]}}",
    ];
    insta::assert_snapshot!(explained(&cases), @r"
    policies.p.steps[0].cap_tool: unknown option
      hint: did you mean `cap_tool_output`?
    policies.p.steps[0]: expected one of `normalize_prefix`, `reserve_output`, `memory_budget`, `cap_tool_output`, `drop_images`, `clear_tool_uses`, `clear_thinking`, `dedupe`, `rag_budget`, `trim_turns`, `summarize`, `growth_alert`, `reject_over`, `fit_context`, got `cap_tool`
      hint: did you mean `cap_tool_output`?
    policies.p.steps[0].cap_tool_output.max_tokns: unknown option
      hint: did you mean `max_tokens`?
    policies.p.steps[0].cap_tool_output.max_tokens: expected a whole number, got `lots`
    policies.p.steps[0]: takes exactly one key, got 2
      hint: give each key an element of its own: begin its line with `- `
    policies.p.steps[0]: takes exactly one key, got 0
      hint: known here: `normalize_prefix`, `reserve_output`, `memory_budget`, `cap_tool_output`, `drop_images`, `clear_tool_uses`, `clear_thinking`, `dedupe`, `rag_budget`, `trim_turns`, `summarize`, `growth_alert`, `reject_over`, `fit_context`
    policies.p.steps[0]: expected one of `normalize_prefix`, `reserve_output`, `memory_budget`, `cap_tool_output`, `drop_images`, `clear_tool_uses`, `clear_thinking`, `dedupe`, `rag_budget`, `trim_turns`, `summarize`, `growth_alert`, `reject_over`, `fit_context`, got `7`
    policies.p.steps: expected a list, got a map
    policies.p.steps[1]: step `trim_turns` stands twice
      hint: keep one of them
    policies.p.steps[0].fit_context: `high: 7` must be over 0 and at most 1
    policies.p.extends: no policy and no preset is named `chta`
      hint: did you mean `chat`?
    policies.p.extends: goes in a circle: p -> p2 -> p
      hint: let one of them extend a preset, or nothing
    policies.p: expected a map, got a list
    policies.p.steps[0].summarize.with: expected one of `extract`, `engine`, got `engin`
      hint: did you mean `engine`?
    policies.p.steps[0].trim_turns: is empty, expected a map
      hint: leave the key out to keep the default, or write `{}`
    policies.p.steps[0].summarize.with: no upstream has an `engine`
      hint: add one, or use `extract`, which needs no model
    ");
}

#[test]
fn summarisers_that_cannot_write_are_explained() {
    let summarize = |upstream: &str, params: &str| {
        format!(
            "upstreams: {{a: {{engine: {{model: model}}}}, h: {{url: 'http://h:1', context: 4096}}}}\n\
             routes: [{{name: r, upstream: {upstream}, policy: p}}]\n\
             policies: {{p: {{steps: [{{summarize: {{{params}}}}}]}}}}"
        )
    };
    let cases = [
        summarize("h", "with: engine"),
        summarize("h", "with: {upstream: aa}"),
        summarize("a", "with: {upstream: h}"),
        summarize("a", "with: {upstreams: h}"),
        summarize("a", "with: {upstream: h}, model: ''"),
    ];
    insta::assert_snapshot!(explained(&cases), @r"
    routes[0].policy: policy `p` summarises with `engine`, and upstream `h` is a server
      hint: say which engine: `with: {upstream: a}`
    policies.p.steps[0].summarize.with.upstream: no upstream is named `aa`
      hint: did you mean `a`?
    routes[0].policy: policy `p` does not say which model of upstream `h` writes its summaries
      hint: `summarize: {with: {upstream: h}, model: MODEL}`
    policies.p.steps[0].summarize.with.upstream: is missing
    policies.p.steps[0].summarize.with.upstreams: unknown option
      hint: did you mean `upstream`?
    policies.p.steps[0].summarize: `model` is empty; name a model, or leave it out
    ");
    for (upstream, params) in [
        ("h", "with: {upstream: a}"),
        ("h", "with: {upstream: h}"),
        ("a", "with: {upstream: h}, model: small"),
        ("a", "with: engine"),
    ] {
        assert!(parse(&summarize(upstream, params)).is_ok(), "{params}");
    }
    let vain = parse(&summarize("a", "with: engine, model: small")).expect("valid");
    let told = vain.warnings.iter().map(|warning| warning.path.as_str()).collect::<Vec<_>>();
    assert_eq!(told, ["policies.p.steps[0].summarize.model", "upstreams.h"]);
    assert_eq!(parse(&summarize("a", "with: {upstream: h}, model: small")).expect("valid").warnings, []);
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    insta::assert_snapshot!(faults("listen:\n  data: [1\nroutes: x\n"), @r"
    `config.yaml` has 1 fault
    not valid YAML: illegal placement of ':' indicator at byte 25 line 3 column 7
      hint: indent by spaces; put texts with `: `, `#` or a leading `*` in quotes
    ");
    insta::assert_snapshot!(faults("log: {}\nlog: {}\n"), @r"
    `config.yaml` has 1 fault
    not valid YAML: `log`: duplicated key in mapping at byte 14 line 2 column 7
      hint: indent by spaces; put texts with `: `, `#` or a leading `*` in quotes
    ");
    insta::assert_snapshot!(faults("- a\n"), @r"
    `config.yaml` has 1 fault
    the file's root must be a map of options, such as `routes: [...]`
    ");
    insta::assert_snapshot!(faults("a: 1\n---\nb: 2\n"), @r"
    `config.yaml` has 1 fault
    not valid YAML: Got 2 YAML documents, expected 1
      hint: indent by spaces; put texts with `: `, `#` or a leading `*` in quotes
    ");
}

/// One configuration with a fault of every kind, all told in one run.
#[test]
fn faults_of_every_kind_are_told_together() {
    let text = "
upstreams:
  a: { engine: { model: model, context: 2048 } }
  h: { url: 'http://h:1', context: 8192 }
routes:
  - { name: embed, upstream: h, policy: agent, match: { path: /v1/embeddings } }
  - { name: r, upstream: a, polcy: p }
policies:
  p: { extends: q, steps: [ { fit_context: { high: 0.6, low: 0.9 } }, { summarize: { verify: 2 } } ] }
  q: { extends: p }
  t: { steps: [ { trim_turns: { keep: none } }, trim_turns, trim_turns ] }
";
    insta::assert_snapshot!(explained(&[text.to_owned()]), @r"
    policies.p.extends: goes in a circle: p -> q -> p
      hint: let one of them extend a preset, or nothing
    policies.p.steps[0].fit_context: `low: 0.9` must be at least 0 and under `high: 0.6`
    policies.p.steps[1].summarize: `verify: 2` must be from 0 to 1
    policies.t.steps[0].trim_turns.keep: expected a whole number, got `none`
    policies.t.steps[2]: step `trim_turns` stands twice
      hint: keep one of them
    routes[0].policy: `agent` would never run: no conversation comes to a path like `/v1/embeddings`
      hint: conversations come to `/v1/chat/completions`, `/v1/messages`, `/v1/responses`, `/api/chat`, `/api/generate`; for other paths say `off`
    routes[1].polcy: unknown option
      hint: did you mean `policy`?
    ");
}

#[test]
fn what_no_window_has_room_for_is_a_warning() {
    let text = "
upstreams:
  a: { engine: { model: model, context: 2048 } }
  h: { url: 'http://h:1', context: 100000 }
routes:
  - { name: big, upstream: h, policy: p, match: { model: big } }
  - { name: off, upstream: a, policy: s, mode: off, match: { model: off } }
  - { name: r, upstream: a, policy: p, window: 1024 }
policies:
  p: { extends: q, steps: [ { summarize: { min_span: 4000, max_tokens: 1023 } } ] }
  q: { extends: agent, steps: [ { reserve_output: { default: 1024 } }, { cap_tool_output: { max_tokens: 200000 } } ] }
  s: { steps: [ { reject_over: { tokens: 99999 } } ] }
";
    let warnings = parse(text).expect("valid").warnings;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    config.yaml:11: policies.q.steps[1].cap_tool_output.max_tokens: 200,000 tokens are more than the prompt's budget, 98,976 (route `big`)
      hint: no result that fits is over it: a quarter of the window is the default
    config.yaml:11: policies.q.steps[0].reserve_output.default: 1,024 tokens are more than the window has room for, 1,023 (route `r`)
      hint: leave room for a prompt: a quarter of the window is the default
    config.yaml:11: policies.q.steps[1].cap_tool_output.max_tokens: 200,000 tokens are more than the prompt's budget, 0 (route `r`)
      hint: no result that fits is over it: a quarter of the window is the default
    config.yaml:10: policies.p.steps[0].summarize.min_span: 4,000 tokens are more than what a cut frees, 0 (route `r`)
      hint: no cut frees so much, and the model is never asked: leave it out, or write less
    ");
}

#[test]
fn what_is_shown_of_a_value_is_cut() {
    let long = "x".repeat(500);
    for text in [
        with(&format!("log: {{level: {long}}}")),
        with(&format!("limits: {{body: {long}}}")),
        with(&format!("limits: {{requests: {long}}}")),
    ] {
        let said = faults(&text);
        assert!(said.contains(&format!("`{}…`", "x".repeat(80))), "{said}");
    }
}
