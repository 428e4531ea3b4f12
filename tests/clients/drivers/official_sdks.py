"""The two official SDKs; the model tells which."""

import anthropic
import openai
from serving import serve


def take_turn(model: str, stream: bool) -> str:
    if model.startswith("claude"):
        with anthropic.Anthropic() as client:
            return messages(client, model, stream)
    with openai.OpenAI() as client:
        return responses(client, model, stream) if model.startswith("gpt-5") else chat(client, model, stream)


def messages(client: anthropic.Anthropic, model: str, stream: bool) -> str:
    asked = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "say hi"}]}
    if not stream:
        return client.messages.create(**asked).content[0].text
    with client.messages.stream(**asked) as streamed:
        return "".join(streamed.text_stream)


def chat(client: openai.OpenAI, model: str, stream: bool) -> str:
    asked = {"model": model, "messages": [{"role": "user", "content": "say hi"}]}
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True))


def responses(client: openai.OpenAI, model: str, stream: bool) -> str:
    if not stream:
        return client.responses.create(model=model, input="say hi").output_text
    events = client.responses.create(model=model, input="say hi", stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


serve(take_turn)
