//! The process's one environment of ONNX Runtime, and where its messages go.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::LoadError;

/// One for the whole process: ONNX Runtime allows no second one, not even after the first is gone.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The process's environment, made with the first engine.
pub(super) fn environment(runtime: &Path) -> Result<Environment, LoadError> {
    let refused = |reason: String| LoadError::Runtime { path: runtime.to_owned(), reason };
    let path = runtime.canonicalize().map_err(|e| refused(e.to_string()))?;
    let mut made = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = made.as_ref() {
        return match *loaded == path {
            true => Ok(environment.clone()),
            false => Err(refused(format!("this process has loaded `{}` already", loaded.display()))),
        };
    }
    let environment = ort::init_from(&path)
        .map_err(|e| refused(e.to_string()))?
        .with_name("plimsoll")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|e| refused(e.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    *made = Some((path, environment.clone()));
    Ok(environment)
}

/// ONNX Runtime's own messages, for those who ask for them.
fn log(level: LogLevel, category: &str, _: &str, place: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(target: "onnxruntime", category, place, "{message}");
        }
        _ => tracing::debug!(target: "onnxruntime", category, place, "{message}"),
    }
}
