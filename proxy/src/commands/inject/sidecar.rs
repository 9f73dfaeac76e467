//! The sidecar that is added; the chart's `_sidecar.tpl` describes the same, and a test holds them equal.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, PersistentVolumeClaimVolumeSource, PodResourceClaim, Probe, ResourceClaim,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;

pub(super) const NAME: &str = "plimsoll";
pub(super) const CLAIM: &str = "plimsoll-gpu";
pub(super) const BASE_URL: &str = "OPENAI_BASE_URL";

const CONFIG: &str = "plimsoll-config";
const TMP: &str = "plimsoll-tmp";
const MODELS: &str = "plimsoll-models";
const ADMIN: &str = "plimsoll-admin";

/// All volumes that may be added.
pub(super) const VOLUMES: [&str; 3] = [CONFIG, TMP, MODELS];

/// User and group of the image.
const NOBODY: i64 = 65532;

/// For the last traces, seconds.
const FLUSH: i64 = 5;

/// For the application to stop, seconds, where the pod says nothing.
const APPLICATION: i64 = 30;

/// What the sidecar is like.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// Image whose entrypoint is `plimsoll`
    #[arg(long, default_value = concat!("plimsoll:", env!("CARGO_PKG_VERSION")), help_heading = "Sidecar")]
    image: String,
    /// When the image is pulled
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"], help_heading = "Sidecar")]
    pull_policy: String,
    /// ConfigMap that holds the configuration as `config.yaml`
    #[arg(long, default_value = "plimsoll", value_name = "NAME", help_heading = "Sidecar")]
    config_map: String,
    /// Secret that holds the admin listener's token
    #[arg(long, default_value = "plimsoll-admin", value_name = "NAME", help_heading = "Sidecar")]
    admin_secret: String,
    /// Key of the token in the Secret
    #[arg(long, default_value = "token", value_name = "KEY", help_heading = "Sidecar")]
    admin_secret_key: String,
    /// PersistentVolumeClaim of the model folders, mounted read-only at /models; default: they are in the image
    #[arg(long, value_name = "NAME", help_heading = "Sidecar")]
    models_claim: Option<String>,
    /// Variable for the sidecar besides its own, `NAME=VALUE`; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable, help_heading = "Sidecar")]
    variables: Vec<(String, String)>,
    /// Processors that it asks for
    #[arg(long, default_value = "1", value_name = "QUANTITY", help_heading = "Sidecar")]
    cpu: String,
    /// Memory that it asks for, and may take: on the CPU, weights and KV cache included
    #[arg(long, default_value = "1Gi", value_name = "QUANTITY", help_heading = "Sidecar")]
    memory: String,
    /// GPUs of a device plugin for its engine; the application then needs none
    #[arg(long, default_value_t = 0, value_name = "COUNT", help_heading = "Sidecar")]
    gpus: u32,
    /// Resource of the device plugin
    #[arg(long, default_value = "nvidia.com/gpu", value_name = "NAME", help_heading = "Sidecar")]
    gpu_resource: String,
    /// ResourceClaimTemplate of a GPU, in place of a device plugin (Kubernetes 1.34 or later)
    #[arg(long, value_name = "NAME", conflicts_with = "gpus", help_heading = "Sidecar")]
    gpu_claim_template: Option<String>,
    /// Port on the pod's loopback that the application calls
    #[arg(long, default_value_t = 7480, value_parser = clap::value_parser!(u16).range(1024..), value_name = "PORT", help_heading = "Sidecar")]
    pub(super) data_port: u16,
    /// Port on the pod's address for health, metrics and state
    #[arg(long, default_value_t = 7490, value_parser = clap::value_parser!(u16).range(1024..), value_name = "PORT", help_heading = "Sidecar")]
    pub(super) admin_port: u16,
    /// Time for the model to load, seconds; the application starts after it
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u16).range(1..), value_name = "SECONDS", help_heading = "Sidecar")]
    startup_seconds: u16,
    /// Time for running requests to end after the signal to stop, seconds; a shorter grace period of the pod is made longer
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..), value_name = "SECONDS", help_heading = "Sidecar")]
    drain_seconds: u16,
    /// Leave the application's environment alone; else its containers get OPENAI_BASE_URL where they name none
    #[arg(long, help_heading = "Application")]
    pub(super) no_env: bool,
}

impl Settings {
    /// What the application's SDKs call.
    pub(super) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.data_port)
    }

    /// How long the sidecar takes to stop, at most, seconds.
    pub(super) fn stop_seconds(&self) -> i64 {
        i64::from(self.drain_seconds) + FLUSH
    }

    /// The pod's grace period where its own is too short, seconds.
    pub(super) fn grace_seconds(&self) -> i64 {
        i64::from(self.drain_seconds) + APPLICATION
    }

    /// What the cluster must hold for the pod to start.
    pub(super) fn needs(&self) -> String {
        let mut needs = format!(
            "the pod's namespace needs ConfigMap `{}` with `config.yaml` and Secret `{}` with `{}`",
            self.config_map, self.admin_secret, self.admin_secret_key
        );
        if let Some(claim) = &self.models_claim {
            let _ = write!(needs, ", PersistentVolumeClaim `{claim}`");
        }
        if let Some(claim) = &self.gpu_claim_template {
            let _ = write!(needs, ", ResourceClaimTemplate `{claim}`");
        }
        needs
    }

    /// The native sidecar: ready before the application starts, stopped after it has ended.
    pub(super) fn container(&self) -> Value {
        let container = Container {
            name: NAME.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some(self.pull_policy.clone()),
            restart_policy: Some("Always".to_owned()),
            args: Some(["serve", "--config", "/etc/plimsoll/config.yaml"].map(str::to_owned).to_vec()),
            env: Some(self.environment()),
            ports: Some(vec![ContainerPort {
                name: Some(ADMIN.to_owned()),
                container_port: i32::from(self.admin_port),
                ..ContainerPort::default()
            }]),
            startup_probe: Some(Probe {
                period_seconds: Some(1),
                failure_threshold: Some(i32::from(self.startup_seconds)),
                ..probe("/readyz")
            }),
            readiness_probe: Some(Probe {
                period_seconds: Some(5),
                timeout_seconds: Some(2),
                ..probe("/readyz")
            }),
            // Only whether the process answers: a long prefill or a full queue is not a reason to kill it.
            liveness_probe: Some(Probe {
                period_seconds: Some(10),
                timeout_seconds: Some(5),
                failure_threshold: Some(6),
                ..probe("/livez")
            }),
            security_context: Some(security()),
            resources: Some(self.resources()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(self.mounts()),
            ..Container::default()
        };
        named_first(&container)
    }

    /// The volumes that it mounts.
    pub(super) fn volumes(&self) -> Vec<Value> {
        let config = ConfigMapVolumeSource { name: self.config_map.clone(), ..Default::default() };
        let tmp = EmptyDirVolumeSource { size_limit: Some(quantity("1Gi")), ..Default::default() };
        let mut volumes = vec![
            Volume { name: CONFIG.to_owned(), config_map: Some(config), ..Volume::default() },
            Volume { name: TMP.to_owned(), empty_dir: Some(tmp), ..Volume::default() },
        ];
        if let Some(claim) = &self.models_claim {
            let claim =
                PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: Some(true) };
            volumes.push(Volume {
                name: MODELS.to_owned(),
                persistent_volume_claim: Some(claim),
                ..Volume::default()
            });
        }
        volumes.iter().map(named_first).collect()
    }

    /// The pod's claim of a GPU, where it is claimed.
    pub(super) fn claim(&self) -> Option<Value> {
        let template = self.gpu_claim_template.clone()?;
        Some(named_first(&PodResourceClaim {
            name: CLAIM.to_owned(),
            resource_claim_template_name: Some(template),
            ..PodResourceClaim::default()
        }))
    }

    /// The application reaches the data port on loopback; the kubelet's probes come to the pod's address.
    fn environment(&self) -> Vec<EnvVar> {
        let token = SecretKeySelector {
            name: self.admin_secret.clone(),
            key: self.admin_secret_key.clone(),
            optional: None,
        };
        let mut environment = vec![
            plain("PLIMSOLL__LISTEN__DATA", &format!("127.0.0.1:{}", self.data_port)),
            plain("PLIMSOLL__LISTEN__ADMIN", &format!("0.0.0.0:{}", self.admin_port)),
            EnvVar {
                name: "PLIMSOLL__LISTEN__ADMIN_TOKEN".to_owned(),
                value_from: Some(EnvVarSource { secret_key_ref: Some(token), ..EnvVarSource::default() }),
                ..EnvVar::default()
            },
            plain("PLIMSOLL__LIMITS__DRAIN", &format!("{}s", self.drain_seconds)),
        ];
        environment.extend(self.variables.iter().map(|(name, value)| plain(name, value)));
        environment
    }

    fn resources(&self) -> ResourceRequirements {
        let requests = [("cpu", quantity(&self.cpu)), ("memory", quantity(&self.memory))];
        let mut limits = BTreeMap::from([("memory".to_owned(), quantity(&self.memory))]);
        if self.gpus > 0 {
            limits.insert(self.gpu_resource.clone(), quantity(&self.gpus.to_string()));
        }
        let claims = self.gpu_claim_template.is_some();
        ResourceRequirements {
            requests: Some(requests.map(|(name, size)| (name.to_owned(), size)).into()),
            limits: Some(limits),
            claims: claims.then(|| vec![ResourceClaim { name: CLAIM.to_owned(), request: None }]),
        }
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let mount = |name: &str, path: &str, read_only| VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            read_only,
            ..VolumeMount::default()
        };
        let mut mounts = vec![mount(CONFIG, "/etc/plimsoll", Some(true)), mount(TMP, "/tmp", None)];
        if self.models_claim.is_some() {
            mounts.push(mount(MODELS, "/models", Some(true)));
        }
        mounts
    }
}

/// Nothing beyond its own files and sockets.
fn security() -> SecurityContext {
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        read_only_root_filesystem: Some(true),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

fn probe(path: &str) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(ADMIN.to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..Probe::default() }
}

fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

fn quantity(text: &str) -> Quantity {
    Quantity(text.to_owned())
}

/// As JSON, its name before all else, where people look for it.
fn named_first(object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).expect("Kubernetes' types are JSON. This is a bug.");
    if let Some(fields) = value.as_object_mut()
        && let Some(name) = fields.shift_remove("name")
    {
        fields.shift_insert(0, "name".to_owned(), name);
    }
    value
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
