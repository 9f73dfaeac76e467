//! `clear_tool_uses`: older tool results become stubs, in batches.
//!
//! The history is replayed from its first message: whenever it is over the trigger and enough has gathered behind the
//! last results, all of that is cleared together. What a walk clears up to a message depends on nothing after it, so
//! that the prefix changes once per batch and every replica clears the same. `summarize` and `fit_context` weigh a
//! result in full up to the message on whose arrival it was cleared, and a summary tells of what it said.
//!
//! Reads that no longer hold come first: where the file was edited later, or read again. They need not wait behind the
//! last results, and where they alone make a batch the others stay.

mod reads;
mod stub;

use std::collections::{BTreeSet, HashMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::artifact_id;
use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Message, Replaced, Role};
use crate::fit_context::share;
use crate::groups::{Group, Kind};
use crate::replay::Shrink;
use crate::tokens::{CountError, Tokens};

use reads::Reads;
use stub::{is_stub, line};

/// Default of what a batch frees, beside a tenth of the budget; held to a quarter of the budget.
const CLEAR_AT_LEAST: Tokens = 2000;

/// Clears older tool results, oldest first: each leaves one line that names the tool and what its result took. The
/// last results stay, and so do those that the model has not answered yet. Results go in batches, so that the prefix
/// changes once per batch and not at every call. Stands after `cap_tool_output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClearToolUses {
    /// Results are cleared once the history is over this share of the budget. Default: 0.5.
    pub trigger: f64,
    /// Tokens in place of `trigger`, for callers that name them. No option of a file.
    #[serde(skip)]
    #[schemars(skip)]
    pub over: Option<Tokens>,
    /// The last results, which stay; at least one. Default: 3.
    pub keep: usize,
    /// Tokens that a batch frees at least. Default: 2000, or a tenth of the budget where that is more; at most a
    /// quarter of the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_at_least: Option<Tokens>,
    /// Tools whose results are never cleared.
    pub exclude: Vec<String>,
    /// Clear the arguments of the calls too. Default: false.
    pub clear_inputs: bool,
    /// Results of fewer bytes stay: the stub would be as long. Default: 46.
    pub min_bytes: usize,
    /// Clear reads of files that were edited or read again later before all others, also among the last results.
    /// Default: true.
    pub stale_first: bool,
}

impl Default for ClearToolUses {
    fn default() -> Self {
        Self {
            trigger: 0.5,
            over: None,
            keep: 3,
            clear_at_least: None,
            exclude: Vec::new(),
            clear_inputs: false,
            min_bytes: 46,
            stale_first: true,
        }
    }
}

impl ClearToolUses {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(0.0..=1.0).contains(&self.trigger) {
            return Some(format!("`trigger: {}` must be from 0 to 1", self.trigger));
        }
        (self.keep == 0).then(|| "`keep: 0` would clear the last result; use 1 or more".to_owned())
    }

    fn clear_at_least_for(&self, budget: Tokens) -> Tokens {
        self.clear_at_least.unwrap_or_else(|| CLEAR_AT_LEAST.min(budget / 4).max(budget / 10))
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &ClearToolUses, snapshot: &Snapshot) -> Effect {
    let (tokens, budget) = (snapshot.tokens, snapshot.marks.budget);
    let trigger = params.over.unwrap_or_else(|| share(budget, params.trigger));
    if tokens <= trigger && !snapshot.conversation.has_replaced() {
        return Effect::Unchanged(format!("{tokens} tokens; results are cleared over {trigger}"));
    }
    match Walk::over(params, snapshot, trigger) {
        Ok(walk) if walk.cleared.is_empty() => {
            let least = walk.clear_at_least;
            Effect::Unchanged(format!("no {least} tokens of results behind the last {}", params.keep))
        }
        Ok(walk) => Effect::Changed(walk.change()),
        Err(refused) => Effect::Failed(refused.to_string()),
    }
}

/// A result and what it would become.
struct Candidate<'a> {
    index: usize,
    tool: Option<&'a str>,
    /// The message that called for it and the call's id.
    call: Option<(usize, &'a str)>,
    /// None where the result stays.
    stub: Option<Message>,
    /// Tokens that go with it.
    saves: Tokens,
    /// What became of it.
    state: State,
    /// Whether it is a read that no longer holds.
    stale: bool,
}

/// What became of a result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// One of the last.
    Recent,
    /// Older than those.
    Waiting,
    /// Cleared on the arrival of this message.
    Cleared(usize),
}

struct Walk<'a> {
    params: &'a ClearToolUses,
    snapshot: &'a Snapshot<'a>,
    trigger: Tokens,
    clear_at_least: Tokens,
    total: Tokens,
    /// The calls so far, by id: the message that holds it, and the tool.
    calls: HashMap<&'a str, (usize, &'a str)>,
    /// The last message of the assistant: it has seen the results before it.
    answered: usize,
    /// All results so far.
    results: Vec<Candidate<'a>>,
    /// The last of them, oldest first.
    recent: VecDeque<usize>,
    /// Those that may be cleared, and what that would save.
    waiting: BTreeSet<usize>,
    gathered: Tokens,
    /// Those of them that no longer hold.
    stale: BTreeSet<usize>,
    gathered_stale: Tokens,
    /// Which results are reads, and of what.
    reads: Reads,
    /// Cleared results in the order they went.
    cleared: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn over(
        params: &'a ClearToolUses,
        snapshot: &'a Snapshot<'a>,
        trigger: Tokens,
    ) -> Result<Self, CountError> {
        let mut walk = Walk {
            params,
            snapshot,
            trigger,
            clear_at_least: params.clear_at_least_for(snapshot.marks.budget),
            total: snapshot.weights.overhead(snapshot.conversation)?,
            calls: HashMap::new(),
            answered: 0,
            results: Vec::new(),
            recent: VecDeque::new(),
            waiting: BTreeSet::new(),
            gathered: 0,
            stale: BTreeSet::new(),
            gathered_stale: 0,
            reads: Reads::default(),
            cleared: Vec::new(),
        };
        let shrinks = walk.shrinks();
        let mut shrinks = shrinks.iter().peekable();
        for index in 0..snapshot.conversation.messages().len() {
            walk.arrive(index);
            while let Some(shrink) = shrinks.next_if(|shrink| shrink.at <= index) {
                walk.total = walk.total.saturating_sub(shrink.by);
            }
            walk.clear(index);
        }
        Ok(walk)
    }

    /// What earlier steps took off messages that had gone out.
    fn shrinks(&self) -> Vec<Shrink> {
        let Snapshot { conversation, weights, .. } = self.snapshot;
        let messages = conversation.messages();
        let single = |index| Group { range: index..index + 1, kind: Kind::Other };
        let singles: Vec<Group> = (0..messages.len()).map(single).collect();
        weights.shrinks(conversation, messages, &singles)
    }

    fn arrive(&mut self, index: usize) {
        let Snapshot { conversation, weights, .. } = self.snapshot;
        let message = &conversation.messages()[index];
        self.total += weights.first_sent(conversation, std::slice::from_ref(message));
        match message.role() {
            Role::Assistant => {
                self.answered = index;
                let named = |call: &'a crate::ToolCall| Some((call.id.as_deref()?, (index, &*call.name)));
                self.calls.extend(message.tool_calls().iter().filter_map(named));
            }
            Role::Tool => {
                let candidate = self.candidate(index);
                self.recent.push_back(self.results.len());
                self.results.push(candidate);
                self.outdate(message);
            }
            _ => {}
        }
        self.age();
    }

    /// Marks the reads that a result makes stale.
    fn outdate(&mut self, message: &'a Message) {
        let place = self.results.len() - 1;
        let call = self.results[place].call.filter(|_| self.params.stale_first);
        let Some((asked, id)) = call else { return };
        let mut calls = self.snapshot.conversation.messages()[asked].tool_calls().iter();
        let Some(call) = calls.find(|call| call.id.as_deref() == Some(id)) else { return };
        for older in self.reads.arrive(place, call, message) {
            let result = &mut self.results[older];
            result.stale = true;
            if result.state == State::Waiting {
                self.gathered_stale += result.saves;
                self.stale.insert(older);
            }
        }
    }

    /// Results that are not among the last any more, or are stale, may be cleared once the model has answered them.
    fn age(&mut self) {
        while self.recent.len() > self.params.keep.max(1)
            && self.results[self.recent[0]].index < self.answered
        {
            if let Some(older) = self.recent.pop_front() {
                self.wait(older);
            }
        }
        let seen =
            |place: &&usize| self.results[**place].index < self.answered && self.results[**place].stale;
        let stale: Vec<usize> = self.recent.iter().filter(seen).copied().collect();
        stale.into_iter().for_each(|place| self.wait(place));
    }

    fn wait(&mut self, place: usize) {
        let result = &mut self.results[place];
        if result.stub.is_some() && result.state == State::Recent {
            result.state = State::Waiting;
            self.gathered += result.saves;
            self.waiting.insert(place);
            if result.stale {
                self.gathered_stale += result.saves;
                self.stale.insert(place);
            }
        }
    }

    fn candidate(&self, index: usize) -> Candidate<'a> {
        let Snapshot { conversation, .. } = self.snapshot;
        let message = &conversation.messages()[index];
        let call = message.tool_call_id().and_then(|id| Some((id, self.calls.get(id)?)));
        let tool = call.map(|(_, (_, tool))| *tool).filter(|tool| !tool.is_empty());
        let call = call.map(|(id, (index, _))| (*index, id));
        let (stub, saves) = self.stub(message, tool).unzip();
        let inputs = call.filter(|_| stub.is_some()).map_or(0, |(index, id)| self.inputs(index, id));
        let saves = saves.unwrap_or_default() + inputs;
        Candidate { index, tool, call, stub, saves, state: State::Recent, stale: false }
    }

    /// What stands for a result, and the tokens it saves; none where the result stays.
    fn stub(&self, message: &Message, tool: Option<&str>) -> Option<(Message, Tokens)> {
        let own = message.name();
        let tool = tool.or(own.as_deref());
        let raw = message.raw_content();
        let excluded = tool.is_some_and(|tool| self.params.exclude.iter().any(|name| name == tool));
        let short = raw.len() < self.params.min_bytes || !raw.starts_with(['"', '[']);
        if short || excluded || is_stub(raw) {
            return None;
        }
        let weight = self.weigh(message);
        let Snapshot { conversation, originals, .. } = self.snapshot;
        let id = originals.then(|| artifact_id(conversation.original(message).raw_content()));
        let stub = message.with_content(&line(tool, weight, id.as_deref()))?;
        let saves = weight.saturating_sub(self.weigh(&stub));
        (saves > 0).then_some((stub, saves))
    }

    /// What clearing the arguments of a call saves: the same, whatever became of the other calls of its message.
    fn inputs(&self, index: usize, id: &str) -> Tokens {
        let message = &self.snapshot.conversation.messages()[index];
        let Some(_) = message.with_empty_arguments(id).filter(|_| self.params.clear_inputs) else { return 0 };
        let call = message.tool_calls().iter().find(|call| call.id.as_deref() == Some(id));
        let text = |text| self.snapshot.counter.text(text);
        call.map_or(0, |call| text(&call.arguments).saturating_sub(text("{}")))
    }

    /// A message without the arguments of a call, and the tokens it saves; none where they stay.
    fn emptied(&self, message: &Message, id: &str) -> Option<(Message, Tokens)> {
        let emptied = message.with_empty_arguments(id).filter(|_| self.params.clear_inputs)?;
        let saves = self.weigh(message).saturating_sub(self.weigh(&emptied));
        (saves > 0).then_some((emptied, saves))
    }

    fn weigh(&self, message: &Message) -> Tokens {
        self.snapshot.weights.of(std::slice::from_ref(message))
    }

    /// Clears what has gathered, where it is time: what is stale, and the rest where that is not enough.
    fn clear(&mut self, index: usize) {
        // A summary arrives with the message after it.
        if self.snapshot.conversation.messages()[index].slot().is_none() {
            return;
        }
        while self.total > self.trigger && !self.waiting.is_empty() {
            let batch = match () {
                () if !self.stale.is_empty() && self.gathered_stale >= self.clear_at_least => {
                    std::mem::take(&mut self.stale)
                }
                () if self.gathered >= self.clear_at_least => std::mem::take(&mut self.waiting),
                () => return,
            };
            for place in batch {
                let result = &mut self.results[place];
                result.state = State::Cleared(index);
                self.gathered -= result.saves;
                self.total = self.total.saturating_sub(result.saves);
                self.waiting.remove(&place);
                self.stale.remove(&place);
                if result.stale {
                    self.gathered_stale -= result.saves;
                }
                self.cleared.push(place);
            }
        }
    }

    fn cleared(&self) -> impl Iterator<Item = &Candidate<'a>> {
        self.cleared.iter().map(|place| &self.results[*place])
    }

    fn change(self) -> Change {
        let messages = self.snapshot.conversation.messages();
        let mut edits = Vec::with_capacity(self.cleared.len());
        let mut emptied: HashMap<usize, Message> = HashMap::new();
        for candidate in self.cleared() {
            let (Some(stub), State::Cleared(arrival)) = (&candidate.stub, candidate.state) else { continue };
            let at = messages[arrival].slot().unwrap_or(usize::MAX);
            let before = messages[candidate.index].clone();
            edits.push((candidate.index, Replaced { before, after: stub.clone(), at }));
            let Some((index, id)) = candidate.call else { continue };
            let before = emptied.get(&index).unwrap_or(&messages[index]).clone();
            if let Some((after, _)) = self.emptied(&before, id) {
                emptied.insert(index, after.clone());
                edits.push((index, Replaced { before, after, at }));
            }
        }
        let first = self.cleared().next().and_then(|candidate| candidate.tool);
        let same = self.cleared().all(|candidate| candidate.tool == first);
        let (count, keep) = (self.cleared.len(), self.params.keep);
        let stale = self.cleared().filter(|candidate| candidate.stale).count();
        let stale = match stale {
            0 => String::new(),
            stale => format!(", {stale} of them reads of what was edited or read again"),
        };
        Change {
            conversation: self.snapshot.conversation.with_replaced(edits),
            touched: count + emptied.len(),
            reason: format!(
                "over {} tokens: {count} results older than the last {keep}{stale}",
                self.trigger
            ),
            tokens: None,
            may_grow: false,
            tool: first.filter(|_| same).map(str::to_owned),
        }
    }
}

#[cfg(test)]
#[path = "clear_tool_uses_tests.rs"]
mod tests;
