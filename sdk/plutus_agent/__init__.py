"""Meter what AI agents use: report it to a Level5 gateway, or keep it in a local file."""

from plutus_agent.adapters import track_anthropic, track_openai
from plutus_agent.delivery import DeliveryState
from plutus_agent.errors import PlutusAuthError, PlutusError, PlutusUsageError
from plutus_agent.meter import Meter
from plutus_agent.remote import VERSION
from plutus_agent.results import TrackResult

__version__ = VERSION

__all__ = [
    "DeliveryState",
    "Meter",
    "PlutusAuthError",
    "PlutusError",
    "PlutusUsageError",
    "TrackResult",
    "__version__",
    "track_anthropic",
    "track_openai",
]
