//! The request of each round: the client's, with the tool, and with the reads so far and their results.

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use plimsoll_policies::{Conversation, READ_TOOL};
use serde_json::{Value, json};
use tower::BoxError;

use super::MAX_ROUNDS;
use super::calls::{self, Call};
use crate::body::Payload;
use crate::config::Mode;
use crate::count::{Counted, Counter};
use crate::forward::upstream::HttpUpstream;
use crate::live::Embedded;
use crate::parse::{self, Chat, Envelope, Input, Options, Outgoing, Work};

/// Where a chat goes.
enum Target {
    Engine(Arc<Embedded>, Box<Options>),
    Http(Arc<HttpUpstream>),
}

/// A request that may take several rounds.
pub(super) struct Rounds {
    envelope: Envelope,
    target: Target,
    payload: Payload,
    conversation: Conversation,
    model: Option<String>,
    counter: Counter,
    done: usize,
}

impl Rounds {
    /// The rounds of a call whose route lets the model read; else the call as it came.
    pub(super) fn of(counted: Counted) -> Result<Box<Self>, Box<Counted>> {
        let Counted { call: parse::Call { mut envelope, work }, counter } = counted;
        // Answers are read in OpenAI's form alone.
        let may = envelope.route.read_tool && envelope.mode == Mode::Enforce && envelope.original.is_none();
        let tool = work.chat().filter(|_| may).and_then(|chat| with_tool(&chat.conversation));
        let (Some(conversation), Some(counter)) = (tool, counter.clone()) else {
            return Err(Box::new(Counted { call: parse::Call { envelope, work }, counter }));
        };
        let (target, chat) = match work {
            Work::Generate { engine, input: Input::Chat(chat), options } => {
                (Target::Engine(engine, Box::new(options)), chat)
            }
            Work::Send { upstream, outgoing: Outgoing::Chat(chat) } => (Target::Http(upstream), chat),
            work => {
                return Err(Box::new(Counted {
                    call: parse::Call { envelope, work },
                    counter: Some(counter),
                }));
            }
        };
        // Answers are read here: they must come as they are.
        envelope.head.headers.remove(ACCEPT_ENCODING);
        let Chat { payload, model, .. } = chat;
        Ok(Box::new(Self { envelope, target, payload, conversation, model, counter, done: 0 }))
    }

    /// The request of the round that is due.
    pub(super) fn request(&self) -> Counted {
        let chat = Chat {
            payload: self.payload.clone(),
            conversation: self.conversation.clone(),
            model: self.model.clone(),
        };
        let work = match &self.target {
            Target::Engine(engine, options) => Work::Generate {
                engine: engine.clone(),
                input: Input::Chat(chat),
                options: Options::clone(options),
            },
            Target::Http(upstream) => {
                Work::Send { upstream: upstream.clone(), outgoing: Outgoing::Chat(chat) }
            }
        };
        let call = parse::Call { envelope: self.envelope.clone(), work };
        Counted { call, counter: Some(self.counter.clone()) }
    }

    /// Whether another round of reads may follow the one that was answered.
    pub(super) fn may_go_on(&self) -> bool {
        self.done < MAX_ROUNDS
    }

    /// Appends an answer that reads, and what it reads.
    pub(super) async fn append(&mut self, answer: &Value, reads: &[Call]) -> Result<(), BoxError> {
        let mut messages = vec![answer.to_string()];
        for read in reads {
            let text = self.read(read).await?;
            let result = json!({"role": "tool", "tool_call_id": read.id, "content": text});
            messages.push(result.to_string());
        }
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        self.conversation = self.conversation.extended(&[], &messages, None)?;
        let body = bytes::Bytes::from(self.conversation.to_json().as_bytes().to_vec());
        self.payload = Payload { original: body.clone(), decoded: body };
        for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
            self.envelope.head.headers.remove(name);
        }
        self.done += 1;
        Ok(())
    }

    /// What a read gives. Disks may be asked.
    async fn read(&self, call: &Call) -> Result<String, BoxError> {
        let kept = self.envelope.live.kept.clone();
        let caller = self.envelope.caller.clone();
        let (arguments, counter, window) =
            (call.arguments.clone(), self.counter.clone(), self.envelope.route.window());
        let read = move || {
            let find = |id: &str| kept.artifacts.as_ref().and_then(|artifacts| artifacts.get(&caller, id));
            calls::result(&arguments, find, counter.as_dyn(), window)
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }
}

/// The conversation with the tool; none where it has no tools of its own, names this one itself, or asks for several
/// answers at once.
fn with_tool(conversation: &Conversation) -> Option<Conversation> {
    let tools: Vec<Value> = serde_json::from_str(conversation.tools()?).ok()?;
    let taken = tools.iter().any(|tool| tool["function"]["name"] == READ_TOOL);
    let several = conversation.field("n").is_some_and(|n| !matches!(n, "1" | "null"));
    if taken || several { None } else { conversation.with_tool(calls::TOOL) }
}
