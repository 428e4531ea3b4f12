"""The meter and its errors, under the name that programs know them by."""

from plutus_agent.errors import PlutusAuthError, PlutusError
from plutus_agent.meter import Meter

__all__ = ["Meter", "PlutusAuthError", "PlutusError"]
