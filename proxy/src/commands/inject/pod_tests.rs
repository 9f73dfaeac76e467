use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn settings(flags: &[&str]) -> Settings {
    Flags::parse_from(["inject"].iter().chain(flags)).settings
}

/// Pods with as little, and as odd things, as Kubernetes takes.
fn pods() -> Vec<Value> {
    let app = json!({"name": "app", "image": "a"});
    vec![
        json!({"spec": {"containers": [app]}}),
        json!({"metadata": null, "spec": {"containers": [{"name": "app", "env": null}], "volumes": null}}),
        json!({"metadata": {"annotations": {}}, "spec": {"containers": [{"name": "app", "env": []}], "initContainers": []}}),
        json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {
                "terminationGracePeriodSeconds": 10,
                "initContainers": [{"name": "first"}],
                "containers": [app, {"name": "own", "env": [{"name": BASE_URL, "value": "http://elsewhere"}]}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
        }),
        json!({"spec": {"terminationGracePeriodSeconds": 600, "containers": [app]}}),
    ]
}

#[test]
fn what_was_added_is_taken_out_again() {
    for flags in [&[][..], &["--no-env"], &["--gpu-claim-template", "gpu", "--models-claim", "models"]] {
        for pod in pods() {
            let mut injected = pod.clone();
            inject(&mut injected, &settings(flags)).expect("a pod");
            assert_ne!(injected, pod);
            let mut out = injected.clone();
            uninject(&mut out).expect("a pod");
            // Order included.
            assert_eq!(out.to_string(), pod.to_string());
            inject(&mut out, &settings(flags)).expect("a pod");
            assert_eq!(out, injected);
        }
    }
}

#[test]
fn a_pod_gets_what_the_sidecar_needs() {
    let mut pod = pods().remove(3);
    let notes = inject(&mut pod, &settings(&["--gpus", "2", "--drain-seconds", "60"])).expect("a pod");
    assert_eq!(notes, ["container `own` has a OPENAI_BASE_URL of its own, which stays"]);
    let spec = &pod["spec"];
    assert_eq!(spec["terminationGracePeriodSeconds"], 90);
    assert_eq!(spec["initContainers"][0]["restartPolicy"], "Always");
    assert_eq!(spec["initContainers"][0]["resources"]["limits"]["nvidia.com/gpu"], "2");
    assert_eq!(spec["initContainers"][1]["name"], "first");
    assert_eq!(spec["containers"][0]["env"][0]["value"], "http://127.0.0.1:7480/v1");
    assert_eq!(spec["containers"][1]["env"][0]["value"], "http://elsewhere");
}

#[test]
fn long_enough_grace_stays() {
    let mut pod = pods().remove(4);
    inject(&mut pod, &settings(&[])).expect("a pod");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 600);
}

#[test]
fn what_is_in_the_way_is_named() {
    let refusal = |pod: Value| inject(&mut pod.clone(), &settings(&[])).expect_err("a refusal").to_string();
    let own = refusal(json!({"spec": {"containers": [{"name": "plimsoll"}]}}));
    assert!(own.contains("a container `plimsoll` that `plimsoll inject` did not add"), "{own}");
    let volume =
        refusal(json!({"spec": {"containers": [{"name": "a"}], "volumes": [{"name": "plimsoll-tmp"}]}}));
    assert!(volume.contains("a volume `plimsoll-tmp`"), "{volume}");
    let port = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 7490}]}]}});
    assert!(refusal(port).contains("container `a` listens on port 7490"));
    assert!(refusal(json!({"spec": {"containers": []}})).contains("no containers"));
    assert!(refusal(json!({"spec": null})).contains("no containers"));
    let mut record =
        json!({"metadata": {"annotations": {ANNOTATION: "x"}}, "spec": {"containers": [{"name": "a"}]}});
    assert!(uninject(&mut record).expect_err("no record").to_string().contains("restore it"));
}

#[test]
fn the_network_of_the_host_is_left_alone() {
    let pod = json!({"spec": {"hostNetwork": true, "containers": [{"name": "a"}]}});
    let mut same = pod.clone();
    let notes = inject(&mut same, &settings(&[])).expect("a pod");
    assert!(same == pod && notes[0].contains("passed through"), "{notes:?}");
}
