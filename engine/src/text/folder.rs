//! The files of a model folder that concern text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::text::error::TextError;

/// Special tokens that a chat template may name, as `transformers` hands them over.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A chat template and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// What a model folder says about text, besides the tokenizer itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    /// Chat templates by name; `default` is the usual one, `tool_use` the one for requests with tools.
    pub(super) templates: BTreeMap<String, Source>,
    /// `bos_token` and its like.
    pub(super) special_tokens: BTreeMap<String, String>,
}

impl Folder {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` where they exist.
    pub(super) fn read(folder: &Path) -> Result<Self, TextError> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_object(&config_path)?;
        let map = read_object(&folder.join("special_tokens_map.json"))?;
        let mut templates = templates_in(&config_path, &config)?;
        for (name, path) in template_files(folder)? {
            if let Some(text) = read_if_there(&path)? {
                templates.insert(name, Source { path, text });
            }
        }
        let special_tokens = ROLES
            .iter()
            .filter_map(|role| {
                Some(((*role).to_owned(), token(&config, role).or_else(|| token(&map, role))?))
            })
            .collect();
        Ok(Self { templates, special_tokens })
    }
}

/// Templates in files of their own; these win over the one in `tokenizer_config.json`.
fn template_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, TextError> {
    let mut files = vec![("default".to_owned(), folder.join("chat_template.jinja"))];
    let more = folder.join("additional_chat_templates");
    let unreadable = |e: std::io::Error| TextError::Read { path: more.clone(), reason: e.to_string() };
    if more.is_dir() {
        for entry in std::fs::read_dir(&more).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if let (Some("jinja"), Some(name)) =
                (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|s| s.to_str()))
            {
                files.push((name.to_owned(), path));
            }
        }
    }
    Ok(files)
}

/// `chat_template` of `tokenizer_config.json`: one text, or a list of named ones.
fn templates_in(path: &Path, config: &Map<String, Value>) -> Result<BTreeMap<String, Source>, TextError> {
    let source = |text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let fault = |reason: &str| TextError::Config { path: path.to_owned(), reason: reason.to_owned() };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(text)) => Ok(BTreeMap::from([("default".to_owned(), source(text))])),
        Some(Value::Array(named)) => named
            .iter()
            .map(|entry| match (entry["name"].as_str(), entry["template"].as_str()) {
                (Some(name), Some(text)) => Ok((name.to_owned(), source(text))),
                _ => Err(fault("an entry of `chat_template` has no `name` or no `template`")),
            })
            .collect(),
        Some(_) => Err(fault("`chat_template` is neither a text nor a list of named templates")),
    }
}

/// A special token, written as a text or as an object with its `content`.
fn token(config: &Map<String, Value>, role: &str) -> Option<String> {
    let value = config.get(role)?;
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn read_object(path: &Path) -> Result<Map<String, Value>, TextError> {
    let Some(text) = read_if_there(path)? else { return Ok(Map::new()) };
    serde_json::from_str(&text).map_err(|e| TextError::Config {
        path: path.to_owned(),
        reason: format!("it is not a JSON object: {e}"),
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(TextError::Read { path: path.to_owned(), reason: e.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;
    use crate::text::error::TextError;

    #[test]
    fn a_template_file_wins_over_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}],
            "bos_token": {"content": "<s>"}, "eos_token": null}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        std::fs::write(folder.path().join("special_tokens_map.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        std::fs::write(folder.path().join("chat_template.jinja"), "c").unwrap();
        let read = Folder::read(folder.path()).unwrap();
        let texts: Vec<_> = read.templates.values().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["c", "b"]);
        let tokens: Vec<_> = read.special_tokens.into_iter().collect();
        let expected = [("bos_token", "<s>"), ("eos_token", "</s>")];
        assert_eq!(tokens, expected.map(|(role, token)| (role.to_owned(), token.to_owned())));
    }

    #[test]
    fn faults_name_the_file_and_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer_config.json");
        std::fs::write(&path, r#"{"chat_template": 7}"#).unwrap();
        let fault = Folder::read(folder.path()).unwrap_err();
        assert!(matches!(&fault, TextError::Config { path: named, .. } if *named == path));
        assert!(fault.to_string().contains("neither a text nor a list"), "{fault}");
        std::fs::write(&path, "[]").unwrap();
        assert!(Folder::read(folder.path()).unwrap_err().to_string().contains("not a JSON object"));
    }
}
