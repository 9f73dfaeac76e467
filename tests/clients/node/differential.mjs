// Calls of the AI SDK by one of its providers, printed as it understands the answers: the same direct and through a sidecar.

import { parseArgs } from 'node:util';

import { Output, generateText, jsonSchema, streamText } from 'ai';

import { models, orderTool } from './support.mjs';

const MODELS = { chat: 'gpt-4o', compatible: 'gpt-4o', responses: 'gpt-5', messages: 'claude-sonnet-4-5' };
const TALK = [
  { role: 'user', content: [{ type: 'text', text: 'And these? 😀' }] },
  {
    role: 'assistant',
    content: ['0', '1'].map((id) => ({ type: 'tool-call', toolCallId: `call_${id}`, toolName: 'get_order_status', input: { order_id: id } })),
  },
  {
    role: 'tool',
    content: ['0', '1'].map((id) => ({
      type: 'tool-result',
      toolCallId: `call_${id}`,
      toolName: 'get_order_status',
      output: { type: 'json', value: { status: 'shipped' } },
    })),
  },
];
const SCHEMA = jsonSchema({
  type: 'object',
  properties: { state: { enum: ['open', 'shipped'] } },
  required: ['state'],
  additionalProperties: false,
});
const KEPT = ['x-request-id', 'request-id', 'retry-after', 'retry-after-ms', 'x-ratelimit-remaining-requests'];

const kept = (headers) => Object.fromEntries(KEPT.map((name) => [name, headers?.[name] ?? null]));

/** What an SDK makes up by itself, at its own time, is none of the server's. */
function told(thing) {
  const own = (key, value) =>
    value instanceof Error
      ? failed(value)
      : key === 'headers'
        ? kept(value)
        : ['timestamp', 'performance', 'body', 'callId'].includes(key) || (key === 'id' && /^aitxt-/.test(value))
          ? undefined
          : value;
  return JSON.stringify(thing, own);
}

function failed(error) {
  const { name, message, statusCode, isRetryable, responseHeaders, data } = error;
  return { name, message, statusCode, isRetryable, data, headers: kept(responseHeaders) };
}

async function whole(options) {
  const { content, finishReason, rawFinishReason, usage, response, warnings, providerMetadata } = await generateText(options);
  return { content, finishReason, rawFinishReason, usage, response, warnings, providerMetadata };
}

async function streamed(options) {
  const seen = [];
  for await (const part of streamText({ ...options, onError: () => {} }).fullStream) {
    if (part.type !== 'start-step') seen.push(part);
  }
  return seen;
}

/** The rest of the stream never comes. */
async function left(options) {
  const leaving = new AbortController();
  const seen = [];
  const { fullStream } = streamText({ ...options, abortSignal: leaving.signal, onError: () => {} });
  for await (const part of fullStream) {
    seen.push(part.type);
    if (part.type === 'text-delta') leaving.abort();
  }
  return seen;
}

const { values } = parseArgs({ options: { 'base-url': { type: 'string' }, provider: { type: 'string' } } });
const model = models(values['base-url'], MODELS[values.provider])[values.provider];
const ask = { model, instructions: 'Be brief — and kind.', messages: TALK, maxRetries: 0, maxOutputTokens: 64 };
const tools = { tools: { get_order_status: orderTool() } };
const likely = { providerOptions: { openai: { logprobs: 2, store: false } } };
globalThis.AI_SDK_LOG_WARNINGS = false;

// In the order in which the server has its answers.
const calls = [
  () => whole({ ...ask, ...likely }),
  () => whole({ ...ask, ...tools }),
  () => whole({ ...ask, output: Output.object({ schema: SCHEMA }) }),
  () => streamed(ask),
  () => streamed({ ...ask, ...tools }),
  () => whole(ask),
  () => whole(ask),
  () => whole(ask),
  () => whole({ ...ask, maxRetries: 1 }),
  () => streamed(ask),
  () => left(ask),
];
for (const call of calls) {
  try {
    console.log(told(await call()));
  } catch (error) {
    console.log(told(error));
  }
}
