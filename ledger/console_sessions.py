"""Who is signed in to the operator's console: sessions, one-time links, and sign-ins that wait for their issuer.

A secret is 256 random bits, known to one browser or in one link; the database has its SHA-256 alone. It is looked for by that
digest, so the time of an answer tells nothing of a secret. Nothing is opened without a line in the audit, in the same transaction.

Any function raises JournalUnavailable where Postgres does not answer.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.errors import LedgerError
from ledger.journal import Connection, Pool, insert_audit, journal_answers, journal_transaction
from ledger.queries import SQL

SECRET_BYTES: Final = 32
SIGN_INS_MAX: Final = 10_000  # that wait for their issuer at once
SIGN_IN_SECONDS: Final = 600
TOUCH_SECONDS: Final = 60  # how exactly it is known when a session was last used
LISTED_MAX: Final = 200
AGENT_LENGTH_MAX: Final = 200
LINK_NAME_LENGTH_MAX: Final = 100


class TooManySignIns(LedgerError):
    """More sign-ins wait for their issuer than may at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Where a sign-in came from, for the audit: network, browser and the id of the request."""

    network: str
    agent: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSession:
    """One sign-in that is still good. `issuer` and `address` are None where a link opened it."""

    id: str
    actor: str
    issuer: str | None
    address: str | None
    network: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs in: the name for the audit, and for whom an issuer vouched, if one did."""

    actor: str
    issuer: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A sign-in that came back from its issuer, once: the digest of the cookie of the browser that began it, and where that wants to go."""

    browser: bytes
    issuer: str
    return_to: str
    in_time: bool


def new_secret() -> str:
    """Return a new secret, fit for cookies and addresses."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest_of_secret(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class ConsoleSessions:
    """Every method is one transaction."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def make_link(self, name: str, *, seconds: int, detail: Mapping[str, object]) -> tuple[str, datetime]:
        """Make a secret that opens one session for `name`, and note it; return it with the moment at which it ends."""
        secret = new_secret()
        async with journal_transaction(self._pool) as connection:
            await insert_audit(connection, actor=f"link:{name}", action="console_link_made", detail=detail)
            expires_at: datetime = await connection.fetchval(SQL["make_link"], digest_of_secret(secret), name, float(seconds))
        return secret, expires_at

    async def name_of_link(self, link: str) -> str | None:
        """Return for whom a link is that can still be used, and leave it as it is."""
        async with journal_answers():
            name: str | None = await self._pool.fetchval(SQL["name_of_link"], digest_of_secret(link))
        return name

    async def open_by_link(self, link: str, visitor: Visitor, *, seconds: int) -> str | None:
        """Use a link up and return the secret of the session that it opens; None for a link that is unknown, used or over."""
        async with journal_transaction(self._pool) as connection:
            name = await connection.fetchval(SQL["use_link"], digest_of_secret(link))
            return None if name is None else await _open(connection, Identity(actor=f"link:{name}"), visitor, seconds=seconds)

    async def begin_sign_in(self, *, state: str, browser: str, issuer: str, return_to: str) -> None:
        """Remember a sign-in that goes to its issuer.

        Raises:
            TooManySignIns: too many wait already.
        """
        values = (digest_of_secret(state), digest_of_secret(browser), issuer, return_to, float(SIGN_IN_SECONDS), SIGN_INS_MAX)
        async with journal_answers():
            if await self._pool.fetchval(SQL["begin_sign_in"], *values) is None:
                raise TooManySignIns("too many sign-ins are under way; try again in some minutes")

    async def take_sign_in(self, state: str) -> SignIn | None:
        """Return the sign-in with this state and forget it, so that no state is good twice."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["take_sign_in"], digest_of_secret(state))
        return None if row is None else SignIn(**dict(row))

    async def open(self, identity: Identity, visitor: Visitor, *, seconds: int) -> str:
        """Open a session and return its secret."""
        async with journal_transaction(self._pool) as connection:
            return await _open(connection, identity, visitor, seconds=seconds)

    async def find(self, secret: str, *, idle_seconds: int) -> ConsoleSession | None:
        """Return the session with this secret, and note that it was used; None where there is none, or it was not used for too long."""
        digest = digest_of_secret(secret)
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["find_session"], digest, float(idle_seconds), float(TOUCH_SECONDS))
            if row is not None and row["stale"]:
                await self._pool.execute(SQL["touch_session"], digest)
        return None if row is None else ConsoleSession(**{name: row[name] for name in ConsoleSession.__dataclass_fields__})

    async def end(self, session_id: str, *, by: str, detail: Mapping[str, object]) -> bool:
        """End one session; False where it had ended."""
        async with journal_transaction(self._pool) as connection:
            actor = await connection.fetchval(SQL["end_session"], session_id)
            if actor is not None:
                await insert_audit(connection, actor=by, action="console_sign_out", detail={**detail, "session": session_id, "of": actor})
        return actor is not None

    async def end_all_of(self, actor: str, *, detail: Mapping[str, object]) -> None:
        """End all sessions of one operator, wherever they are."""
        async with journal_transaction(self._pool) as connection:
            await insert_audit(connection, actor=actor, action="console_sign_out_everywhere", detail=detail)
            await connection.execute(SQL["end_sessions_of"], actor)

    async def end_everybodys(self, *, by: str, detail: Mapping[str, object]) -> None:
        """End all sessions of all operators, and all links and sign-ins that wait."""
        async with journal_transaction(self._pool) as connection:
            await insert_audit(connection, actor=by, action="console_closed", detail=detail)
            await connection.execute(SQL["end_all_sessions"])

    async def list(self, *, idle_seconds: int) -> list[ConsoleSession]:
        """Return the sessions that are good, last used first, at most 200."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_sessions"], float(idle_seconds), LISTED_MAX)
        return [ConsoleSession(**dict(row)) for row in rows]


async def _open(connection: Connection, identity: Identity, visitor: Visitor, *, seconds: int) -> str:
    """Open a session with a secret of its own: nothing that the browser sent becomes one."""
    secret, session_id = new_secret(), "ses_" + secrets.token_hex(8)
    agent = visitor.agent[:AGENT_LENGTH_MAX]
    detail = {"session": session_id, "by": identity.issuer or "link", "from": visitor.network, "agent": agent, "request_id": visitor.request_id}
    await insert_audit(connection, actor=identity.actor, action="console_sign_in", detail=detail)
    terms = (session_id, digest_of_secret(secret), identity.actor, identity.issuer, identity.address, visitor.network, agent, float(seconds))
    await connection.execute(SQL["open_session"], *terms)
    return secret
