// The AI SDK against the embedded engine, by each of its providers: whole, streamed, parallel tool calls and back,
// structured output, errors as its exceptions, and leaving in the midst of an answer.

import { APICallError, Output, generateText, isStepCount, jsonSchema, streamText } from 'ai';

import { RECALL, expect, expectEqual, main, models, orderTool } from './support.mjs';

const ORDERS = [{ role: 'user', content: 'What is the status of order ORD-90412 and of order ORD-11111?' }];
const IDS = ['ORD-90412', 'ORD-11111'];
const SCHEMA = jsonSchema({
  type: 'object',
  properties: { state: { enum: ['open', 'shipped'] }, urgent: { type: 'boolean' } },
  required: ['state', 'urgent'],
  additionalProperties: false,
});

const ask = (model, messages, more = {}) => ({ model, messages, temperature: 0, maxRetries: 0, maxOutputTokens: 200, ...more });

/** A stream's parts; one of type `error` is thrown. */
async function parts(options) {
  const found = [];
  for await (const part of streamText({ ...options, onError: () => {} }).fullStream) {
    if (part.type === 'error') throw part.error;
    found.push(part);
  }
  return found;
}

async function whole(model) {
  const answer = await generateText(ask(model, RECALL));
  expect(answer.text.includes('ORD-48213'), `the answer lacks the order: ${answer.text}`);
  expectEqual(answer.finishReason, 'stop', 'finish reason');
  const { inputTokens, outputTokens } = answer.usage;
  expect(inputTokens > 10 && outputTokens > 2, `usage: ${JSON.stringify(answer.usage)}`);
  const limited = await generateText(ask(model, RECALL, { maxOutputTokens: 3 }));
  expectEqual([limited.finishReason, limited.usage.outputTokens], ['length', 3], 'an answer that was cut');
  return answer;
}

async function streamed(model, answer) {
  const found = await parts(ask(model, RECALL));
  const deltas = found.filter((part) => part.type === 'text-delta').map((part) => part.text);
  expect(deltas.length > 1, 'the text came in one piece');
  expectEqual(deltas.join(''), answer.text, 'streamed text');
  const last = found.at(-1);
  expectEqual([last.type, last.finishReason], ['finish', 'stop'], 'the end of the stream');
  const { inputTokens, outputTokens } = last.totalUsage;
  expectEqual([inputTokens, outputTokens], [answer.usage.inputTokens, answer.usage.outputTokens], 'streamed usage');
}

/** Two calls at once, made, answered by this program, and their results spoken. */
async function tools(model) {
  const asked = [];
  const get_order_status = orderTool(async ({ order_id }) => {
    asked.push(order_id);
    return { status: 'shipped' };
  });
  const spoken = await generateText(ask(model, ORDERS, { tools: { get_order_status }, stopWhen: isStepCount(2) }));
  expectEqual(spoken.steps.map((step) => step.finishReason), ['tool-calls', 'stop'], 'finish reasons of the steps');
  expectEqual(asked, IDS, 'what was called');
  expectEqual(new Set(spoken.steps[0].toolCalls.map((call) => call.toolCallId)).size, 2, 'ids of the calls');
  expect(spoken.text.includes('shipped'), `the answer lacks the status: ${spoken.text}`);
  const found = await parts(ask(model, ORDERS, { tools: { get_order_status: orderTool() } }));
  const calls = found.filter((part) => part.type === 'tool-call').map((part) => part.input.order_id);
  expectEqual(calls, IDS, 'streamed calls');
  const ids = found.filter((part) => part.type === 'tool-input-start').map((part) => part.id);
  for (const [place, id] of ids.entries()) {
    const input = found.filter((part) => part.type === 'tool-input-delta' && part.id === id).map((part) => part.delta);
    expectEqual(JSON.parse(input.join('')).order_id, IDS[place], 'streamed arguments');
  }
  expectEqual(found.at(-1).finishReason, 'tool-calls', 'streamed finish reason');
}

async function structured(model) {
  const question = [{ role: 'user', content: 'My order number is ORD-48213. I want three.' }];
  const { output } = await generateText(ask(model, question, { output: Output.object({ schema: SCHEMA }) }));
  expect(['open', 'shipped'].includes(output.state) && typeof output.urgent === 'boolean', JSON.stringify(output));
}

async function refused(status, words, call) {
  try {
    await call();
  } catch (error) {
    expect(APICallError.isInstance(error), `${error}`);
    expectEqual(error.statusCode, status, `status of ${error.message}`);
    expect(error.message.includes(words), `no \`${words}\` in ${error.message}`);
    expectEqual(error.isRetryable, false, 'whether to try again');
    return error.message;
  }
  throw new Error(`no error of status ${status}`);
}

async function errors(model, unknown, overflow) {
  const long = [{ role: 'user', content: 'amber lamp '.repeat(4000) }];
  await refused(404, 'does not exist', () => generateText(ask(unknown, RECALL)));
  await refused(400, overflow, () => generateText(ask(model, long)));
  return refused(400, overflow, () => parts(ask(model, long)));
}

/** Who leaves early leaves nothing behind that keeps the next one waiting. */
async function left(model) {
  for (let round = 0; round < 6; round += 1) {
    const leaving = new AbortController();
    const { fullStream } = streamText(ask(model, RECALL, { abortSignal: leaving.signal, onError: () => {} }));
    let aborted = false;
    for await (const part of fullStream) {
      if (part.type === 'text-delta') leaving.abort();
      aborted ||= part.type === 'abort';
    }
    expect(aborted, 'the stream ended as if nobody had left');
  }
}

await main(async (baseUrl) => {
  const [known, unknown] = [models(baseUrl, 'demo'), models(baseUrl, 'no-such-model')];
  const overflows = { messages: 'prompt is too long' };
  const lines = [];
  for (const [name, model] of Object.entries(known)) {
    try {
      const answer = await whole(model);
      await streamed(model, answer);
      await tools(model);
      await structured(model);
      await left(model);
      const message = await errors(model, unknown[name], overflows[name] ?? 'the window is');
      lines.push(`ai ${name}: ${JSON.stringify(answer.text)}; ${message}`);
    } catch (error) {
      error.message = `${name}: ${error.message}`;
      throw error;
    }
  }
  return lines.join('\n');
});
