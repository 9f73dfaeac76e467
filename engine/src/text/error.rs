//! What can go wrong with the text side of a model folder.

use std::path::PathBuf;

/// A model folder whose tokenizer or chat template cannot be used. Each message names the file, what is wrong and
/// how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The folder has no tokenizer.
    #[error(
        "`{}` is missing: export the tokenizer into the model folder (in Python: `AutoTokenizer.from_pretrained(..).save_pretrained(folder)`)",
        path.display()
    )]
    MissingTokenizer {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A file is there but cannot be read.
    #[error("cannot read `{}`: {reason}; check the permissions of the model folder", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The tokenizer's file is damaged or describes something that is not supported.
    #[error("cannot use the tokenizer in `{}`: {reason}; export it again, with a current `transformers` and its fast tokenizer", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration file beside the tokenizer is not what it should be.
    #[error("cannot use `{}`: {reason}; export the tokenizer again", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The chat template is not a template.
    #[error("cannot use the chat template in `{}`: {reason}; mend the template or remove it", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where it is known.
        reason: String,
    },
}

/// A conversation that the model's chat template does not render.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model folder has no chat template.
    #[error(
        "the model has no chat template: use `/v1/completions`, or put a `chat_template.jinja` into its folder"
    )]
    Missing,
    /// The template itself refuses the conversation, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The template takes more steps than any real one needs.
    #[error("the chat template does not come to an end: shorten the conversation or mend the template")]
    Endless,
    /// The template does not work with this conversation.
    #[error("the chat template failed: {0}")]
    Failed(String),
}

/// A text that the tokenizer does not take, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tokenizer does not take the text: {0}")]
pub struct EncodeError(pub(super) String);
