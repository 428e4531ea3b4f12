"""Sending events to a server. Whatever the network does comes out as a PlutusError."""

import http.client
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from plutus_agent.answers import Outcome, error_text, read_outcomes
from plutus_agent.connections import Address, Connection, ConnectionPool
from plutus_agent.errors import PlutusAuthError, PlutusError
from plutus_agent.retrying import pause_after, read_retry_after

VERSION = "0.1.0"
BATCH_MAX = 1000
ANSWER_BYTES_MAX = 8 * 1024 * 1024
# 409 is an event that is just being recorded; it and the busy ones pass.
RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    retry_after: float | None
    body: bytes


class Remote:
    """One server and one key. Safe to share between threads."""

    def __init__(self, url: str, api_key: str) -> None:
        key = api_key.strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            # The text of the standard library's own error would show the key.
            raise ValueError("api_key must be printable ASCII without blanks")
        self.address = Address.read(url)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"level5-meter/{VERSION}",
        }
        if self.address.proxy is not None and not self.address.secure:
            self._headers |= self.address.proxy_headers
        self._pool = ConnectionPool(self.address)

    def send(self, lines: Sequence[str], *, timeout: float, retries: int = 0) -> list[Outcome]:
        """Send events, each one line of JSON, and return the outcome of each. Takes at most `timeout` seconds with all retries.

        Raises:
            PlutusAuthError: the key is not taken.
            PlutusError: anything else; `retryable` tells whether sending the same lines again may help.
        """
        deadline, failures = time.monotonic() + timeout, 0
        body = (lines[0] if len(lines) == 1 else f"[{','.join(lines)}]").encode()
        while True:
            try:
                return self._send_once(body, len(lines), deadline)
            except PlutusError as error:
                failures += 1
                pause = pause_after(failures, error.retry_after)
                if not error.retryable or failures > retries or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)

    def close(self) -> None:
        """Close the idle connections; a later `send` opens new ones."""
        self._pool.close()

    def _send_once(self, body: bytes, count: int, deadline: float) -> list[Outcome]:
        answer = self._exchange(body, deadline)
        if answer.status in (200, 402):
            return read_outcomes(answer.body, count=count, status=answer.status)
        if answer.status == 401:
            raise PlutusAuthError("the server does not take the API key (HTTP 401)", status=401)
        said = error_text(answer.body)
        raise PlutusError(
            f"the server refused the usage: HTTP {answer.status}" + (f", {said}" if said else ""),
            status=answer.status,
            retry_after=answer.retry_after,
            retryable=answer.status in RETRYABLE,
        )

    def _exchange(self, body: bytes, deadline: float) -> Answer:
        connection = self._pool.take(deadline)
        try:
            try:
                return self._ask(connection, body, deadline)
            except (ConnectionError, http.client.RemoteDisconnected):
                if not connection.used:
                    raise
                # The server had closed it before our request came. The event's key makes the second sending harmless.
                connection.close()
                connection = self._pool.take(deadline, fresh=True)
                return self._ask(connection, body, deadline)
        except TimeoutError:
            connection.close()
            raise PlutusError(f"no answer from {self.address.origin} in time", retryable=True) from None
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise PlutusError(f"the certificate of {self.address.origin} is not trusted: {error.verify_message}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise PlutusError(f"could not reach {self.address.origin}: {reason}", retryable=True) from None
        except BaseException:
            connection.close()
            raise

    def _ask(self, connection: Connection, body: bytes, deadline: float) -> Answer:
        if connection.sock is None:
            connection.connect()
        if connection.sock is not None:
            connection.sock.deadline = deadline
        connection.request("POST", f"{self.address.base}/v1/usage", body=body, headers=self._headers)
        response = connection.getresponse()
        content = response.read(ANSWER_BYTES_MAX + 1)
        if len(content) > ANSWER_BYTES_MAX or response.length:
            raise http.client.HTTPException("the answer is too large, or was cut short")
        answer = Answer(response.status, read_retry_after(response.getheader("Retry-After")), content)
        response.close()
        self._pool.give_back(connection)
        return answer
