//! The embedded engine's settings.

use std::path::PathBuf;

use plimsoll_engine::{KeepAlive, Offload, OffloadDisk};

use super::super::path::Path;
use super::super::raw;
use super::super::scalar::{Amount, Lifetime, OrAuto, TokensOrAuto};
use super::super::valid::{Device, EngineContext, EngineUpstream, Keep, Memory, ModelPaths};
use super::{Check, SIZE};

/// A window below this has no room for a template, a question and an answer.
const LEAST_CONTEXT: u32 = 256;

impl Check<'_> {
    pub(super) fn engine(&mut self, at: &Path, key: &str, raw: &raw::Engine) -> Option<EngineUpstream> {
        let model = self.model(&at.key("model"), &raw.model);
        let device = self.device(at.key("device"), &raw.device);
        let memory = self.memory(at.key("memory"), raw);
        let context = self.context(at.key("context"), raw);
        let keep_alive = self.keep_alive(at.key("keep_alive"), &raw.keep_alive);
        let checkpoints = raw.checkpoints.as_ref().map(|text| self.new_folder(at.key("checkpoints"), text));
        let offload = self.offload(&at.key("offload"), &raw.offload);
        // Numbers outside of the schema's range have been named already.
        let context_shift = raw.context_shift.as_ref().and_then(|shift| Keep::read(shift.keep.into()));
        let (model, device) = (model?, device?);
        self.folder_of_device(&at.key("model"), &model, device);
        Some(EngineUpstream {
            model,
            name: raw.name.clone().unwrap_or_else(|| key.to_owned()),
            device,
            memory: memory?,
            context: context?,
            kv_dtype: raw.kv_dtype,
            slots: raw.slots,
            threads: raw.threads,
            queue: raw.queue as usize,
            keep_alive: keep_alive?,
            checkpoints: checkpoints.flatten(),
            offload: offload?,
            context_shift,
        })
    }

    fn model(&mut self, at: &Path, raw: &raw::Model) -> Option<ModelPaths> {
        match raw {
            // Its absence has been named already.
            raw::Model::One(text) if text.is_empty() && self.findings.touch(at) => None,
            raw::Model::One(text) => self.folder(at.clone(), text).map(ModelPaths::One),
            raw::Model::ByDevice(raw::ModelByDevice { cpu: None, cuda: None }) => {
                if !self.findings.touch(at) {
                    self.fault(
                        at.clone(),
                        "names no folder",
                        "`{cpu: FOLDER, cuda: FOLDER}`, or one of the two",
                    );
                }
                None
            }
            raw::Model::ByDevice(raw) => {
                let cpu = raw.cpu.as_ref().map(|text| self.folder(at.key("cpu"), text));
                let cuda = raw.cuda.as_ref().map(|text| self.folder(at.key("cuda"), text));
                Some(ModelPaths::ByDevice { cpu: cpu.flatten(), cuda: cuda.flatten() })
            }
        }
    }

    fn folder_of_device(&mut self, at: &Path, model: &ModelPaths, device: Device) {
        let missing = match (model, device) {
            (ModelPaths::ByDevice { cpu: None, .. }, Device::Cpu) => "cpu",
            (ModelPaths::ByDevice { cuda: None, .. }, Device::Cuda(_)) => "cuda",
            _ => return,
        };
        self.fault(at.key(missing), format!("is missing: `device` asks for {missing}"), "");
    }

    fn device(&mut self, at: Path, text: &str) -> Option<Device> {
        let device = match text {
            "auto" => Some(Device::Auto),
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()).map(Device::Cuda),
        };
        if device.is_none() {
            self.fault(at, format!("`{text}` is not a device"), "one of `auto`, `cpu`, `cuda`, `cuda:0`");
        }
        device
    }

    fn keep_alive(&mut self, at: Path, raw: &Lifetime) -> Option<KeepAlive> {
        let read = raw.read();
        if let (None, Lifetime::Text(text)) = (read, raw) {
            self.fault(
                at,
                format!("`{text}` is not a time"),
                "`5m`, a number of seconds, 0 (not at all) or -1 (for ever)",
            );
        }
        read
    }

    /// A folder that may still be missing.
    fn new_folder(&mut self, at: Path, text: &str) -> Option<PathBuf> {
        let path = self.path(text);
        if text.is_empty() || (path.exists() && !path.is_dir()) {
            self.fault(
                at,
                format!("`{text}` is not a folder"),
                "the path of a folder; it is made when it is missing",
            );
            return None;
        }
        Some(path)
    }

    fn offload(&mut self, at: &Path, raw: &raw::Offload) -> Option<Offload> {
        let host = match &raw.host {
            None => Some(0),
            Some(size) => size.bytes(),
        };
        if let (None, Some(size)) = (host, &raw.host) {
            self.fault(at.key("host"), format!("`{}` is not a size", size.0), SIZE);
        }
        let Some(disk) = &raw.disk else { return Some(Offload { host: host?, disk: None }) };
        let at = at.key("disk");
        if host == Some(0) {
            let hint = "set `offload.host`, such as `2GiB`: conversations are written from there";
            self.fault(at.clone(), "needs main memory", hint);
        }
        let dir = self.new_folder(at.key("dir"), &disk.dir);
        let limit = self.size(at.key("limit"), &disk.limit);
        Some(Offload { host: host?, disk: Some(OffloadDisk { dir: dir?, limit: limit? }) })
    }

    fn memory(&mut self, at: Path, raw: &raw::Engine) -> Option<Memory> {
        match raw.memory.amount() {
            Some(OrAuto::Auto) => Some(Memory::Auto),
            Some(OrAuto::Given(Amount::Percent(share))) => Some(Memory::Percent(share)),
            Some(OrAuto::Given(Amount::Bytes(bytes))) if bytes > 0 => Some(Memory::Bytes(bytes)),
            _ => {
                let hint = "`auto`, a size such as `6GiB`, or a share from `1%` to `100%`";
                self.fault(at, format!("`{}` is not an amount of memory", raw.memory.0), hint);
                None
            }
        }
    }

    fn context(&mut self, at: Path, raw: &raw::Engine) -> Option<EngineContext> {
        Some(match self.tokens_or_auto(at, &raw.context)? {
            OrAuto::Auto => EngineContext::Auto,
            OrAuto::Given(tokens) => EngineContext::Tokens(tokens),
        })
    }

    /// A window, or `auto`.
    pub(super) fn tokens_or_auto(&mut self, at: Path, raw: &TokensOrAuto) -> Option<OrAuto<u32>> {
        match raw.tokens() {
            Some(OrAuto::Auto) => Some(OrAuto::Auto),
            Some(OrAuto::Given(tokens)) if tokens >= LEAST_CONTEXT => Some(OrAuto::Given(tokens)),
            Some(OrAuto::Given(tokens)) => {
                self.fault(at, format!("must be at least {LEAST_CONTEXT} tokens, got {tokens}"), "");
                None
            }
            None => {
                let message = format!("`{}` is not a number of tokens", raw.0);
                self.fault(at, message, "`auto`, or a whole number such as 4096");
                None
            }
        }
    }
}
