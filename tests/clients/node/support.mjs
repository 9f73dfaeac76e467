// What the scripts of this folder share: providers, checks that say what was wrong, the conversation they hold.

import { parseArgs } from 'node:util';

import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { jsonSchema, tool } from 'ai';

export const RECALL = [
  { role: 'user', content: 'My name is Maria Lopez.' },
  { role: 'assistant', content: 'Nice to meet you, Maria!' },
  { role: 'user', content: 'My order number is ORD-48213.' },
  { role: 'assistant', content: 'Thanks, I have noted that.' },
  { role: 'user', content: 'What is my order number?' },
];

/** The tool; its schema is in the order in which policies put schemas, so that they find nothing to do. */
export function orderTool(execute) {
  return tool({
    description: 'Look up the status of an order.',
    inputSchema: jsonSchema({
      properties: { order_id: { description: 'The order number', type: 'string' } },
      required: ['order_id'],
      type: 'object',
    }),
    execute,
  });
}

/** Each provider's model of this name, by the path that it asks. */
export function models(baseURL, name) {
  const openai = createOpenAI({ baseURL, apiKey: 'unused' });
  const compatible = createOpenAICompatible({
    baseURL,
    name: 'compatible',
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  return {
    chat: openai.chat(name),
    responses: openai.responses(name),
    compatible: compatible.chatModel(name),
    messages: createAnthropic({ baseURL, apiKey: 'unused' })(name),
  };
}

export function expect(holds, message) {
  if (!holds) throw new Error(message);
}

export function expectEqual(got, wanted, what) {
  const [one, other] = [JSON.stringify(got), JSON.stringify(wanted)];
  expect(one === other, `${what}: got ${one}, wanted ${other}`);
}

/** Runs `check(baseUrl)` against --base-url; it returns what is printed. */
export async function main(check) {
  const { values } = parseArgs({ options: { 'base-url': { type: 'string' } } });
  // Warnings of the SDK are for people.
  globalThis.AI_SDK_LOG_WARNINGS = false;
  console.log(await check(values['base-url']));
}
