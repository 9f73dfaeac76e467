//! What a model's chat template does to the start of growing prompts is told by `validate`, `/state` and a metric.

use std::path::Path;

use plimsoll_tests::shared::{demo, root};
use plimsoll_tests::{Sidecar, get, plimsoll};
use serde_json::Value;

use crate::tooling::run;

/// The demo model's tokenizer with a template that writes the date and counts the messages.
fn unstable(folder: &Path) {
    let demo = root().join("engine/demo/model");
    std::fs::copy(demo.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let template = "{{ strftime_now('%d %B %Y') }}: {{ messages | length }} messages
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
}

fn config(tokenizer: &Path) -> String {
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: 'http://127.0.0.1:9', tokenizer: '{}', context: 8000 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
",
        tokenizer.display()
    )
}

#[test]
fn validate_prints_the_certificate() {
    let (good, printed) = run(plimsoll().arg("validate"));
    assert!(good && printed.contains("template of local: prefix stable, no date"), "{printed}");
    let folder = tempfile::tempdir().unwrap();
    unstable(folder.path());
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config(folder.path())).unwrap();
    let (good, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file));
    assert!(good, "an unstable template is slow, not wrong: {printed}");
    for part in [
        "template of other: prefix NOT stable, writes the date",
        "  chat: request 1 parts at token",
        "  date: ",
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    let output = plimsoll().args(["validate", "--json", "--config"]).arg(&file).output().unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let template = &result["templates"]["other"];
    assert_eq!((&template["stable"], &result["valid"]), (&false.into(), &true.into()), "{template:#}");
    assert_eq!(template["shapes"][0]["without_generation_prompt"]["outcome"], "diverges", "{template:#}");
}

#[test]
fn validate_names_a_template_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    unstable(folder.path());
    std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config(folder.path())).unwrap();
    let (good, printed) = run(plimsoll().args(["validate", "--config"]).arg(&file));
    assert!(!good && printed.contains("chat_template.jinja") && printed.contains("not valid: "), "{printed}");
}

#[test]
fn a_sidecar_tells_it_too() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let state = get(&format!("{}/state", sidecar.admin_url)).ok();
    let template = &state["upstreams"]["local"]["template"];
    assert_eq!((&template["stable"], &template["date"]), (&true.into(), &Value::Null), "{template:#}");
    let folder = tempfile::tempdir().unwrap();
    unstable(folder.path());
    let sidecar = Sidecar::start(&config(folder.path()));
    let state = get(&format!("{}/state", sidecar.admin_url)).ok();
    assert_eq!(state["upstreams"]["other"]["template"]["stable"], false, "{state:#}");
    let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
    let of = |shape: &str| {
        let line = metrics.lines().find(|line| {
            line.starts_with("plimsoll_template_stable_ratio{")
                && line.contains(&format!("shape=\"{shape}\""))
        });
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_else(|| panic!("{shape} is not in\n{metrics}"))
    };
    assert_eq!((of("chat"), of("date")), ("0", "0"), "{metrics}");
}
