"""Claims: the challenge by which the owner of a sending wallet asks for a deposit that names nobody. Used once, within its time."""

import secrets
from datetime import datetime
from typing import Final

from ledger.account_values import Account
from ledger.deposit_values import Claim, Deposit
from ledger.errors import ClaimExpired, ClaimSpent, UnknownClaim
from ledger.journal import journal_answers
from ledger.queries import SQL
from ledger.vault_link import VaultLink

_ID_BYTES: Final = 16


class DepositClaims(VaultLink):
    """Keeping challenges and using them up; whether one was answered rightly is for the caller to prove."""

    async def open_claim(self, deposit: Deposit, account: Account, *, text: str, nonce: str, expires_at: datetime) -> str:
        """Keep the challenge `text` for this deposit and account; return the claim's id."""
        claim_id = "clm_" + secrets.token_hex(_ID_BYTES)
        async with journal_answers():
            await self._pool.execute(SQL["insert_claim"], claim_id, deposit.id, account.id, text, nonce, expires_at)
        return claim_id

    async def find_claim(self, claim_id: str) -> Claim | None:
        """Return a claim, whether or not it can still be used."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["find_claim"], claim_id)
        return None if row is None else Claim(**dict(row))

    async def take_claim(self, claim_id: str) -> Claim:
        """Use a claim up and return it. Of all who ask for it, one gets it.

        Raises:
            ClaimSpent, ClaimExpired: too late.
            UnknownClaim: there is no such claim.
        """
        async with journal_answers():
            taken = await self._pool.fetchval(SQL["spend_claim"], claim_id)
        claim = await self.find_claim(claim_id)
        if claim is None:
            raise UnknownClaim(claim_id)
        if taken is None:
            raise ClaimSpent(claim_id) if claim.spent_at is not None else ClaimExpired(claim_id)
        return claim
