"""Settings of the deposits on Solana, the clusters we know, and the addresses of the simulated one."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, SecretStr, field_validator

from config.sections import Section, join_items
from ledger.base58 import KEY_BYTES, decode_exactly

RPC_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:@_~%]+([/?][\x21-\x2b\x2d-\x7e]*)?")
WS_ADDRESS: Final = re.compile(r"wss?://[\x21-\x7e]+")

# A cluster is known by the hash of its first block; its USDC is Circle's.
CLUSTERS: Final = {
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "mainnet",
    "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkbzYG": "devnet",
}
USDC_MINTS: Final = {
    "mainnet": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGkwZwyTDt1v",
    "devnet": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
}
# The simulated cluster makes these keys from the texts "level5 sandbox treasury" and "level5 sandbox usdc mint".
SANDBOX_TREASURY: Final = "4iY48m7oDbh3oQWmRXNg7AgfADKzu6MoEj5TRbuZVKbj"
SANDBOX_MINT: Final = "75jqyvFZfUf6goeBuni7uqJUKeiAu7eezxJsPWa4L7yr"


def require_solana_address(value: str) -> str:
    """Return a public key in base58 as it was given.

    Raises:
        ValueError: it is not 32 bytes in base58.
    """
    try:
        decode_exactly(value, KEY_BYTES)
    except ValueError as error:
        raise ValueError("must be a public key of 32 bytes in base58") from error
    return value


SolanaAddress = Annotated[str, Field(max_length=44), AfterValidator(require_solana_address)]


class ChainSettings(Section):
    """Deposits of USDC on Solana; they are on where a treasury and an RPC provider are set."""

    rpc_urls: SecretStr | None = Field(
        default=None, description="JSON-RPC addresses, separated by commas; two independent ones at best. An address may hold a key, so they are a secret."
    )
    ws_url: SecretStr | None = Field(default=None, description="WebSocket address that tells of payments sooner; without it polling alone finds them.")
    treasury: SolanaAddress | None = Field(default=None, description="Public key that owns the vault. Its secret key stays with you, offline.")
    usdc_mint: SolanaAddress | None = Field(default=None, description="Mint of the token; without it USDC's own on mainnet and devnet.")
    vault: SolanaAddress | None = Field(default=None, description="Token account to watch; without it the treasury's associated one.")
    history: Literal["whole", "from_now"] = Field(
        default="whole", description="At the very first start: read the vault's whole history, or take its balance as it is and begin now."
    )
    poll_seconds: float = Field(default=2.0, gt=0, le=60, description="Pause between two looks at the chain.")
    requests_per_second: float = Field(default=10.0, gt=0, description="Requests a second that one RPC provider is asked at most.")
    cross_check_above: NonNegativeInt = Field(
        default=100_000_000, description="Microunits above which a deposit is credited only when a second provider shows the same."
    )
    set_aside_min: NonNegativeInt = Field(default=10_000, description="Smaller transfers that name no account are counted, not listed.")
    inner_memo: bool = Field(default=True, description="Let the one memo within a smart wallet's call name the account.")
    event_program: SolanaAddress | None = Field(default=None, description="Program whose DepositEvent may name the account; without it its events are ignored.")

    @field_validator("rpc_urls", mode="before")
    @classmethod
    def _join(cls, value: object) -> object:
        return join_items(value)

    @field_validator("rpc_urls")
    @classmethod
    def _are_http_addresses(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(RPC_ADDRESS.fullmatch(one) for one in value.get_secret_value().split(",")):
            raise ValueError("must be http(s) addresses such as https://api.mainnet-beta.solana.com")
        return value

    @field_validator("ws_url")
    @classmethod
    def _is_a_websocket_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not WS_ADDRESS.fullmatch(value.get_secret_value()):
            raise ValueError("must be a ws(s) address such as wss://api.mainnet-beta.solana.com")
        return value

    @property
    def providers(self) -> tuple[str, ...]:
        """The JSON-RPC addresses, each of which may hold a key."""
        return tuple(self.rpc_urls.get_secret_value().split(",")) if self.rpc_urls else ()

    @property
    def is_on(self) -> bool:
        """Whether deposits on chain are watched for and advertised."""
        return bool(self.treasury and self.rpc_urls)
