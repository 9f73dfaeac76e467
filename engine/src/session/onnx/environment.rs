//! The process's one environment of ONNX Runtime, where its messages go, and how sessions are set up in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

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

/// A session's options, before its providers.
pub(super) fn builder(environment: &Environment, threads: Option<u32>) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // Plans of past shapes are kept for ever, and prompts come in all lengths.
        .with_memory_pattern(false)?;
    if let Some(threads) = threads {
        builder = builder.with_intra_threads(threads as usize)?;
    }
    Ok(builder)
}
