"""Pydantic AI's agents."""

import asyncio

from pydantic_ai import Agent
from serving import serve


def take_turn(model: str, stream: bool) -> str:
    # An event loop for each turn, as each program has its own: connections do not outlive it.
    return asyncio.run(ask(Agent(f"{'anthropic' if model.startswith('claude') else 'openai'}:{model}"), stream))


async def ask(agent: Agent, stream: bool) -> str:
    if not stream:
        return (await agent.run("say hi")).output
    async with agent.run_stream("say hi") as streamed:
        return await streamed.get_output()


serve(take_turn)
