//! A request that is understood: what is asked, of whom, and under which rules.

use std::sync::Arc;

use http::request::Parts;
use plimsoll_engine::KeepAlive;
use plimsoll_policies::{Report, Step};
use serde_json::Value;

use super::{Chat, Options, Prompt};
use crate::body::Body;
use crate::config::Mode;
use crate::dialect::Original;
use crate::forward::upstream::HttpUpstream;
use crate::govern::Next;
use crate::identify::{Api, Identified};
use crate::inquiry::Asked;
use crate::kept::{Caller, Wanted};
use crate::live::{Embedded, Live, Route};
use crate::telemetry::RequestSpan;

/// A request whose body is understood as far as its route needs.
pub struct Call {
    /// What is known of the request around its body.
    pub envelope: Envelope,
    /// What is asked.
    pub work: Work,
}

/// A request without its body, and under which rules it runs.
#[derive(Clone)]
pub struct Envelope {
    /// Method, URL and headers as they came.
    pub head: Parts,
    /// The API it speaks.
    pub api: Api,
    /// What it was before it was translated; none where it speaks OpenAI's dialect or was not read.
    pub original: Option<Arc<dyn Original>>,
    /// Edits that the caller asks the embedded engine for, ahead of the route's policy.
    pub edits: Vec<Step>,
    /// What they did.
    pub edited: Option<Report>,
    /// The one route that answers it.
    pub route: Arc<Route>,
    /// What the route's policy may do with this request.
    pub mode: Mode,
    /// The configuration it runs under.
    pub live: Arc<Live>,
    /// Whose request it is, as far as what is kept is concerned.
    pub caller: Caller,
    /// What is told of the request at its end.
    pub record: RequestSpan,
    /// Where the embedded engine resumes a conversation: whether its keys and values were `restored`, `resident` or are
    /// `computed`. Of another server's nothing is known.
    pub resumed: Option<&'static str>,
    /// The field for which the request goes to its server as it came, though its route has a policy.
    pub ungoverned: Option<&'static str>,
    /// What is to be prepared once the answer is out.
    pub next: Option<Box<Next>>,
}

/// What a call asks for, and of whom.
pub enum Work {
    /// An answer of the embedded engine.
    Generate {
        /// The engine.
        engine: Arc<Embedded>,
        /// What it goes on from.
        input: Input,
        /// How it goes on.
        options: Options,
    },
    /// The list of models, or the one that the path names, of the embedded engines.
    Models {
        /// The id in the path; `None` asks for the list.
        id: Option<String>,
    },
    /// A model that is to be there, or to go.
    Load(Loading),
    /// Something that an embedded engine tells besides answers.
    Tell(Asked),
    /// A conversation to be governed and saved.
    Save {
        /// The engine that its route leads to.
        engine: Option<Arc<Embedded>>,
        /// The conversation.
        chat: Chat,
    },
    /// The tokens of a conversation, as the policy would send it.
    Count {
        /// The engine that would run it.
        engine: Arc<Embedded>,
        /// The conversation.
        chat: Chat,
    },
    /// A conversation in short.
    Compact {
        /// The engine whose window it is for.
        engine: Arc<Embedded>,
        /// The conversation.
        chat: Chat,
    },
    /// Something that is kept for the caller.
    Kept {
        /// What is wanted.
        wanted: Wanted,
    },
    /// An answer of an HTTP upstream.
    Send {
        /// The upstream.
        upstream: Arc<HttpUpstream>,
        /// What is sent.
        outgoing: Outgoing,
    },
}

/// What the embedded engine goes on from.
pub enum Input {
    /// A conversation.
    Chat(Chat),
    /// A conversation that is tokens already.
    Continued(Vec<u32>),
    /// A prompt of its own.
    Text(Prompt),
}

/// A model that is to be there, or to go.
pub struct Loading {
    /// The engine.
    pub engine: Arc<Embedded>,
    /// For how long; `None`: as it is configured. Zero: it goes.
    pub keep_alive: Option<KeepAlive>,
    /// What is answered then.
    pub answer: Value,
}

/// What an HTTP upstream is sent.
pub enum Outgoing {
    /// A conversation, to be governed.
    Chat(Chat),
    /// The body as it came.
    Raw(Body),
}

impl Work {
    /// The chat in it, if it is one.
    pub fn chat(&self) -> Option<&Chat> {
        match self {
            Self::Generate { input: Input::Chat(chat), .. }
            | Self::Send { outgoing: Outgoing::Chat(chat), .. }
            | Self::Count { chat, .. }
            | Self::Save { chat, .. } => Some(chat),
            _ => None,
        }
    }

    /// The chat in it, to be edited.
    pub fn chat_mut(&mut self) -> Option<&mut Chat> {
        match self {
            Self::Generate { input: Input::Chat(chat), .. }
            | Self::Send { outgoing: Outgoing::Chat(chat), .. }
            | Self::Count { chat, .. }
            | Self::Save { chat, .. } => Some(chat),
            _ => None,
        }
    }
}

impl Envelope {
    pub(super) fn of(request: Identified, route: Arc<Route>, mode: Mode) -> Self {
        let Identified { head, api, live, caller, record, .. } = request;
        let (original, edits, edited) = (None, Vec::new(), None);
        let (resumed, ungoverned, next) = (None, None, None);
        Self {
            head,
            api,
            original,
            edits,
            edited,
            route,
            mode,
            live,
            caller,
            record,
            resumed,
            ungoverned,
            next,
        }
    }
}
