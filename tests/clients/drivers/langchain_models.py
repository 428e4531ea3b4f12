"""LangChain's chat models."""

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from serving import serve


def take_turn(model: str, stream: bool) -> str:
    chat = ChatAnthropic(model=model, max_tokens=500) if model.startswith("claude") else ChatOpenAI(model=model)
    return "".join(piece.text for piece in chat.stream("say hi")) if stream else chat.invoke("say hi").text


serve(take_turn)
