"""Tracking providers' answers, under the name that programs know it by."""

from plutus_agent.adapters import track_anthropic, track_openai

__all__ = ["track_anthropic", "track_openai"]
