"""The result of `track`, under the name that programs know it by."""

from plutus_agent.results import TrackResult
from plutus_agent.results import TrackResult as MeterResult

__all__ = ["MeterResult", "TrackResult"]
