// Vercel's AI SDK. The address is given as the printed program gives it.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import { serve } from "./serving.mjs";

await serve(async (model, stream) => {
  const make = model.startsWith("claude") ? createAnthropic : createOpenAI;
  const provider = make(process.env.GATEWAY ? { baseURL: process.env.GATEWAY } : {});
  const chosen = model === "gpt-4o" ? provider.chat(model) : provider(model);
  if (!stream) return (await generateText({ model: chosen, prompt: "say hi" })).text;
  let failure = null, text = "";
  const streamed = streamText({ model: chosen, prompt: "say hi", onError: ({ error }) => { failure = error; } });
  for await (const piece of streamed.textStream) text += piece;
  if (failure) throw failure;
  return text;
});
