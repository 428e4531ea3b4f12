// The two official SDKs; the model tells which.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { serve } from "./serving.mjs";

const messages = [{ role: "user", content: "say hi" }];

async function anthropic(model, stream) {
  const client = new Anthropic();
  const asked = { model, max_tokens: 500, messages };
  if (!stream) return (await client.messages.create(asked)).content[0].text;
  let text = "";
  for await (const event of client.messages.stream(asked)) if (event.type === "content_block_delta") text += event.delta.text;
  return text;
}

async function openai(model, stream) {
  const client = new OpenAI();
  let text = "";
  if (model.startsWith("gpt-5")) {
    if (!stream) return (await client.responses.create({ model, input: "say hi" })).output_text;
    for await (const event of await client.responses.create({ model, input: "say hi", stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    return text;
  }
  if (!stream) return (await client.chat.completions.create({ model, messages })).choices[0].message.content;
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) text += chunk.choices[0].delta.content ?? "";
  return text;
}

await serve((model, stream) => (model.startsWith("claude") ? anthropic : openai)(model, stream));
