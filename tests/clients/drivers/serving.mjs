// The client's side of a test, as serving.py is for Python: one command a line in, what a user would have seen out.

import { createInterface } from "node:readline";
import { writeFile, rm } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { EnvHttpProxyAgent, getGlobalDispatcher, setGlobalDispatcher } from "undici";

const inherited = { ...process.env };
const direct = getGlobalDispatcher();
const say = process.stdout.write.bind(process.stdout);
let programs = 0;

/** Run a printed program as a module of its own, beside node_modules, and return what it logged. */
async function run(program) {
  const file = `${import.meta.dirname}/hello-${process.pid}-${programs++}.mjs`;
  const logged = [];
  const log = console.log;
  console.log = (...values) => logged.push(values.join(" "));
  try {
    await writeFile(file, program);
    await import(pathToFileURL(file));
  } finally {
    console.log = log;
    await rm(file, { force: true });
  }
  return logged.join("\n");
}

/** Take turns until the input ends. `takeTurn` is given the model and whether to stream; it returns the answer's text. */
export async function serve(takeTurn) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, inherited, command.environment);
    // Programs set the dispatcher themselves, as they are told to.
    setGlobalDispatcher(process.env.HTTPS_PROXY && !command.program ? new EnvHttpProxyAgent() : direct);
    let shown = "", error = null;
    try {
      shown = command.program ? await run(command.program) : await takeTurn(command.model, command.stream);
    } catch (fault) {
      error = `${fault.constructor.name}: ${fault.message}`;
    }
    say(JSON.stringify({ shown, error }) + "\n");
  }
}
