//! Counters, a memory for derived texts, and short forms.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use plimsoll_policies::{
    Chain, Context, Conversation, CountError, CountTokens, Limits, Message, Recorded, Refusal, Report, Role,
    SpanKey, Step, Summaries, Tokens, Verdict, resolve,
};

/// About four bytes a token and four tokens a message; pieces count a little more than the whole.
#[derive(Default)]
pub(crate) struct Counter {
    /// A template that demands alternating roles.
    pub(crate) alternate: bool,
    /// Percent by which a whole prompt is more than its pieces.
    pub(crate) excess: Tokens,
}

impl CountTokens for Counter {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        if self.alternate {
            alternates(conversation.messages())?;
        }
        let tools = conversation.tools().map_or(0, |tools| tools.len().div_ceil(4) as Tokens);
        Ok((3 + tools + self.messages(conversation.messages())) * (100 + self.excess) / 100)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| 4 + self.text(message.json())).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len().div_ceil(4) as Tokens
    }

    fn name(&self) -> &'static str {
        "four-bytes"
    }

    fn estimated(&self) -> bool {
        true
    }
}

/// The same, for an engine that holds the prompts it was given.
#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) counter: Counter,
    pub(crate) held: Mutex<Vec<Conversation>>,
}

impl Engine {
    /// Computes a prompt, which it holds from now on.
    pub(crate) fn compute(&self, prompt: &Conversation) {
        self.held.lock().unwrap().push(prompt.clone());
    }
}

impl CountTokens for Engine {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        self.counter.prompt(conversation)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        self.counter.messages(messages)
    }

    fn text(&self, text: &str) -> Tokens {
        self.counter.text(text)
    }

    fn name(&self) -> &str {
        self.counter.name()
    }

    fn estimated(&self) -> bool {
        self.counter.estimated()
    }

    fn resident(&self, conversation: &Conversation) -> Option<Tokens> {
        let common = |held: &Conversation| {
            let pairs = held.messages().iter().zip(conversation.messages());
            let same = pairs.take_while(|(held, asked)| held.json() == asked.json());
            same.map(|(held, _)| self.messages(std::slice::from_ref(held))).sum::<Tokens>()
        };
        Some(self.held.lock().unwrap().iter().map(common).max().unwrap_or(0))
    }
}

/// User and assistant take turns after the instructions; results count as part of the assistant's turn.
fn alternates(messages: &[Message]) -> Result<(), CountError> {
    let mut expected = Role::User;
    for message in
        messages.iter().filter(|message| !message.role().is_system() && message.role() != Role::Tool)
    {
        let calls = !message.tool_calls().is_empty();
        if message.role() != expected
            && !(expected == Role::User && message.role() == Role::Assistant && calls)
        {
            let role = message.role();
            return Err(CountError::new(format!("roles must alternate: {role:?} where {expected:?} is due")));
        }
        expected = if message.role() == Role::User || calls { Role::Assistant } else { Role::User };
    }
    Ok(())
}

/// Remembers derived texts, as the sidecar does.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<SpanKey, Recorded>>);

impl Memory {
    pub(crate) fn put(&self, key: SpanKey, recorded: Recorded) {
        self.0.lock().unwrap().insert(key, recorded);
    }
}

impl Summaries for Memory {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        self.0.lock().unwrap().get(key).cloned()
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.put(*key, Recorded::Text(text.to_owned()));
    }
}

pub(crate) fn parse(body: &str) -> Conversation {
    Conversation::parse_chat(body.into()).unwrap()
}

pub(crate) fn steps(json: &serde_json::Value) -> Vec<Step> {
    serde_json::from_value(json.clone()).unwrap()
}

pub(crate) fn preset(name: &str) -> Chain {
    Chain::build(name, &resolve(name, &BTreeMap::new()).unwrap())
}

/// Applies a chain where nothing but the window is known; a model's summary is played by a line that names no fact.
pub(crate) fn run(
    chain: &Chain,
    conversation: &Conversation,
    counter: &dyn CountTokens,
    memory: &dyn Summaries,
    window: Tokens,
) -> Result<(Conversation, Report), Refusal> {
    run_within(chain, conversation, counter, memory, Limits::tokens(window))
}

/// Applies a chain within these limits.
pub(crate) fn run_within(
    chain: &Chain,
    conversation: &Conversation,
    counter: &dyn CountTokens,
    memory: &dyn Summaries,
    limits: Limits,
) -> Result<(Conversation, Report), Refusal> {
    let asked = Memory::default();
    let both = Both(memory, &asked);
    loop {
        let context = Context { limits, counter, summaries: &both };
        match chain.apply(conversation, &context)? {
            Verdict::Done { conversation, report } => return Ok((conversation, report)),
            Verdict::Ask(ask) => {
                let text = format!("They spoke of {} things.", ask.span.len());
                asked.put(ask.key, Recorded::Text(text));
            }
        }
    }
}

struct Both<'a>(&'a dyn Summaries, &'a Memory);

impl Summaries for Both<'_> {
    fn get(&self, key: &SpanKey) -> Option<Recorded> {
        self.0.get(key).or_else(|| self.1.get(key))
    }

    fn record(&self, key: &SpanKey, text: &str) {
        self.0.record(key, text);
    }
}
