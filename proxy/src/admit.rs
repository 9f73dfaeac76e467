//! Reserves device memory for a call's prompt and answer: a permit, a wait, or a refusal with exact figures.

mod bounds;
mod shift;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_engine::{AdmitError, Grammar, GrammarError, NoShift, Permit, Shift};
use plimsoll_policies::{Conversation, CountError, Report};
use thiserror::Error;

use crate::forward::upstream::HttpUpstream;
use crate::govern::Governed;
use crate::inquiry::Asked;
use crate::kept::{Caller, Kept, Saving, Wanted};
use crate::live::{Embedded, Live};
use crate::parse::{Envelope, Input, Loading, Options, Outgoing, Work};
use crate::stream::Kind;

/// A call that may go where its route leads.
pub enum Admitted {
    /// To the embedded engine.
    Run(Run),
    /// To an HTTP upstream.
    Send(Sending),
    /// Saved.
    Save(Saving),
    /// Counted.
    Count(Counting),
    /// Told in short.
    Compact(Compacting),
    /// Answered from what is kept.
    Kept(Arc<Kept>, Caller, Wanted),
    /// To have a model there, or gone.
    Load(Loading),
    /// Told of an engine.
    Tell(Arc<Live>, Asked),
    /// Answered from what is loaded.
    Models(Arc<Live>, Option<String>),
}

impl Admitted {
    /// The request around the body, of calls that have one.
    pub(crate) fn envelope_mut(&mut self) -> Option<&mut Envelope> {
        match self {
            Self::Run(run) => Some(&mut run.envelope),
            Self::Send(sending) => Some(&mut sending.envelope),
            Self::Save(saving) => Some(&mut saving.envelope),
            Self::Count(counting) => Some(&mut counting.envelope),
            Self::Compact(compacting) => Some(&mut compacting.envelope),
            Self::Kept(..) | Self::Load(_) | Self::Tell(..) | Self::Models(..) => None,
        }
    }
}

/// Leave to run on the embedded engine. A permit frees its memory when it is dropped.
pub struct Run {
    /// The engine.
    pub engine: Arc<Embedded>,
    /// The request around its body.
    pub envelope: Envelope,
    /// What the policy did.
    pub report: Option<Report>,
    /// Which API asks.
    pub kind: Kind,
    /// Names of the functions that the request offers.
    pub tools: Arc<[String]>,
    /// How the answer goes on.
    pub options: Options,
    /// The prompt, as it was counted.
    pub prompt: Arc<[u32]>,
    /// Tokens the answer may have.
    pub max_tokens: u32,
    /// Tokens of the prompt that the KV cache held before the call was admitted.
    pub resident: u32,
    /// The messages, of a chat.
    pub chat: Option<Conversation>,
    /// How the answer goes on where it outgrows the window; none where it ends there, or never gets so far.
    pub shift: Option<Shift>,
    /// What the answer must be.
    pub grammar: Option<Grammar>,
    /// Memory for the prompt and an answer, for each choice that is asked for.
    pub permits: Vec<Permit>,
}

/// A request for an HTTP upstream.
pub struct Sending {
    /// The upstream.
    pub upstream: Arc<HttpUpstream>,
    /// The request around its body.
    pub envelope: Envelope,
    /// What the policy did.
    pub report: Option<Report>,
    /// The body.
    pub outgoing: Outgoing,
}

/// A conversation whose tokens are asked for.
pub struct Counting {
    /// The engine that would run it.
    pub engine: Arc<Embedded>,
    /// The request around its body.
    pub envelope: Envelope,
    /// What the policy did.
    pub report: Option<Report>,
    /// The conversation as the policy leaves it.
    pub conversation: Conversation,
}

/// A conversation that is asked for in short.
pub struct Compacting {
    /// The engine whose window it is for.
    pub engine: Arc<Embedded>,
    /// The request around its body.
    pub envelope: Envelope,
    /// The conversation as it came.
    pub conversation: Conversation,
}

/// The call may not run, or not now.
#[derive(Debug, Error)]
pub enum NotAdmitted {
    /// Prompt and answer do not fit the window.
    #[error(
        "this model's maximum context length is {context} tokens, however you requested {} tokens \
         ({prompt} in the prompt, {output} for the completion): shorten the prompt or the completion",
        prompt + output
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for the answer, at least one.
        output: usize,
        /// Tokens of the window.
        context: u32,
    },
    /// A token id that the model does not have.
    #[error("`prompt`: token {token} is not in the model's vocabulary of {vocab} tokens")]
    UnknownToken {
        /// The id.
        token: u32,
        /// How many ids there are.
        vocab: u32,
    },
    /// The prompt cannot be rendered by the model's template.
    #[error(transparent)]
    Count(#[from] CountError),
    /// The answer's format or its calls cannot be held to.
    #[error(transparent)]
    Format(#[from] GrammarError),
    /// A function that is not offered must be called.
    #[error("`tool_choice`: `{0}` is not one of `tools`")]
    UnknownTool(String),
    /// The answer is to go on past the window.
    #[error("`shift`: the context of this model cannot be shifted: {0}; leave it out")]
    NoShift(NoShift),
    /// There is nothing to call.
    #[error("`tool_choice`: a call needs `tools`")]
    NoTools,
    /// Schemas that would take too long.
    #[error("`tools` is {bytes} bytes, at most {most} are taken where calls are held to their schemas")]
    ToolsTooLong {
        /// Bytes of the tools.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// The grammar decides where the answer ends.
    #[error(
        "`min_tokens` has no place beside calls that are held to a form: the form decides where the answer ends"
    )]
    LeastBesideGrammar,
    /// The format's compilation ended without a result.
    #[error("`response_format`: the schema could not be compiled")]
    FormatCrashed,
    /// Others' formats were compiled for as long as `limits.queue_wait` allows.
    #[error("the schemas of other requests were compiled for {}", humantime::format_duration(*.0))]
    CompilerBusy(Duration),
    /// No memory now, or never.
    #[error(transparent)]
    Memory(#[from] AdmitError),
    /// It waited as long as `limits.queue_wait` allows.
    #[error("no memory became free within {}", humantime::format_duration(*.0))]
    Waited(Duration),
}

/// Why a call may not run, and the member of its body that is at fault.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct AdmitFault {
    /// `messages` or `prompt`.
    pub param: &'static str,
    /// What is wrong.
    pub why: NotAdmitted,
}

/// Reserves what a call needs on the embedded engine; other calls pass.
pub async fn admit(governed: Governed) -> Result<Admitted, AdmitFault> {
    let param = match &governed.work {
        Work::Generate { input: Input::Text(_) | Input::Continued(_), .. } => "prompt",
        _ => "messages",
    };
    run(governed).await.map_err(|why| AdmitFault { param, why })
}

async fn run(governed: Governed) -> Result<Admitted, NotAdmitted> {
    let Governed { envelope, work, report } = governed;
    let (engine, input, options) = match work {
        Work::Generate { engine, input, options } => (engine, input, options),
        Work::Send { upstream, outgoing } => {
            return Ok(Admitted::Send(Sending { upstream, envelope, report, outgoing }));
        }
        Work::Save { engine, chat } => {
            return Ok(Admitted::Save(Saving { envelope, report, chat, engine }));
        }
        Work::Count { engine, chat } => {
            let conversation = chat.conversation;
            return Ok(Admitted::Count(Counting { engine, envelope, report, conversation }));
        }
        Work::Compact { engine, chat } => {
            let conversation = chat.conversation;
            return Ok(Admitted::Compact(Compacting { engine, envelope, conversation }));
        }
        Work::Kept { wanted } => {
            let kept = envelope.live.kept.clone();
            let caller = envelope.caller.clone();
            return Ok(Admitted::Kept(kept, caller, wanted));
        }
        Work::Load(loading) => return Ok(Admitted::Load(loading)),
        Work::Tell(asked) => return Ok(Admitted::Tell(envelope.live, asked)),
        Work::Models { id } => return Ok(Admitted::Models(envelope.live, id)),
    };
    let (kind, prompt) = match &input {
        Input::Chat(chat) => (Kind::Chat, engine.counter.ids(&chat.conversation)?),
        Input::Continued(tokens) => {
            (Kind::Chat, known(tokens.as_slice().into(), engine.engine.model().vocab)?)
        }
        Input::Text(prompt) => {
            (Kind::Text, known(engine.counter.plain(prompt)?, engine.engine.model().vocab)?)
        }
    };
    let context = context(&engine, &envelope);
    let shift = shift::wanted(&engine, &options, prompt.len())?;
    // Where answers outgrow the window the policy's lower limit is the prompt's matter alone.
    let limit = if shift.is_some() { options.max_tokens } else { asked(&input, &options) };
    let Room { max_tokens, tokens, shift } = room(&engine, context, &prompt, (limit, options.n), shift)?;
    let resident = engine.engine.resident_prefix(&prompt);
    let chat = match input {
        Input::Chat(chat) => Some(chat.conversation),
        Input::Continued(_) | Input::Text(_) => None,
    };
    let wait = envelope.live.limits.queue_wait;
    let bounds = bounds::bounds(&engine, &options, chat.as_ref(), &prompt)?;
    let grammar = bounds::grammar(&engine, bounds, wait).await?;
    let tools = bounds::offered(chat.as_ref()).into_iter().map(|function| function.name).collect();
    let span = envelope.record.wait();
    let permits = reserve(&engine, &prompt, (tokens, options.n), wait).await?;
    drop(span);
    Ok(Admitted::Run(Run {
        engine,
        envelope,
        report,
        kind,
        tools,
        options,
        prompt,
        max_tokens,
        resident,
        chat,
        shift,
        grammar,
        permits,
    }))
}

/// Token ids may come from the client.
fn known(prompt: Arc<[u32]>, vocab: u32) -> Result<Arc<[u32]>, NotAdmitted> {
    match prompt.iter().find(|&&token| token >= vocab) {
        Some(&token) => Err(NotAdmitted::UnknownToken { token, vocab }),
        None => Ok(prompt),
    }
}

/// The engine's window, or what the request asks for within it.
fn context(engine: &Embedded, envelope: &Envelope) -> u32 {
    let asked = envelope.original.as_ref().and_then(|original| original.window());
    let asked = asked.map_or(u32::MAX, |asked| u32::try_from(asked).unwrap_or(u32::MAX));
    engine.engine.context().min(asked)
}

/// Tokens asked for the answer, or fewer where the policy lowered them.
fn asked(input: &Input, options: &Options) -> Option<u32> {
    let lowered = match input {
        Input::Chat(chat) => chat.conversation.output_limit().and_then(|limit| u32::try_from(limit).ok()),
        Input::Continued(_) | Input::Text(_) => None,
    };
    options.max_tokens.map(|asked| lowered.map_or(asked, |lowered| lowered.min(asked)))
}

/// What an answer has to itself.
struct Room {
    /// Tokens of it at most.
    max_tokens: u32,
    /// Tokens of prompt and answer that are held at the same time, at most.
    tokens: u32,
    /// How it goes on where that is less than both.
    shift: Option<Shift>,
}

/// How long an answer may be in a context: what was asked, or whatever the window leaves, and the memory, to so many of
/// them; more where it may go on past the window.
fn room(
    engine: &Embedded,
    context: u32,
    prompt: &[u32],
    (asked, count): (Option<u32>, u32),
    shift: Option<Shift>,
) -> Result<Room, NotAdmitted> {
    let used = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    let left = context.saturating_sub(used);
    if left == 0 || asked.is_some_and(|asked| asked > left && shift.is_none()) {
        let output = asked.unwrap_or(1) as usize;
        return Err(NotAdmitted::TooLong { prompt: prompt.len(), output, context });
    }
    let all = engine.engine.model().kv_bytes_per_token.saturating_mul(u64::from(count));
    let each = engine
        .engine
        .kv_room()
        .1
        .checked_div(all)
        .map_or(context, |each| u32::try_from(each).unwrap_or(u32::MAX));
    let window = used + left.min(each.saturating_sub(used)).max(1);
    let max_tokens = match shift {
        Some(_) => shift::longest(asked, window),
        None => asked.unwrap_or(window - used),
    };
    let tokens = used.saturating_add(max_tokens);
    if shift.is_none() || tokens <= window {
        return Ok(Room { max_tokens, tokens, shift: None });
    }
    Ok(Room { max_tokens, tokens: window, shift })
}

/// All choices run together or not at all.
async fn reserve(
    engine: &Embedded,
    prompt: &Arc<[u32]>,
    (tokens, count): (u32, u32),
    wait: Duration,
) -> Result<Vec<Permit>, NotAdmitted> {
    match tokio::time::timeout(wait, engine.engine.reserve_all(prompt, tokens, count)).await {
        Ok(reserved) => Ok(reserved?),
        Err(_) => Err(NotAdmitted::Waited(wait)),
    }
}
