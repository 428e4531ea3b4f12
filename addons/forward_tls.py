# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""TLS on the client's side of a tunnel: for the host that CONNECT named, and for no other."""

import ipaddress
from collections.abc import Callable

from cryptography import x509
from mitmproxy.certs import CertStoreEntry
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer

from addons.mitmproxy_addons import TlsConfig
from telemetry.logs import log

HELLO_BYTES_MAX = 64 * 1024  # mitmproxy reads a ClientHello of any size, and anew with every piece of it
_HANDSHAKE_RECORD = 0x16
_TLS_MAJOR = 0x03
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # a fatal alert, in the clear: no keys are agreed on yet


class GatewayTls(TlsConfig):
    """mitmproxy's provider of TLS contexts, without the page that it would serve on every host."""

    request = None  # type: ignore[assignment]  # a list of revoked certificates, which nobody asks us for

    def get_cert(self, conn_context: Context) -> CertStoreEntry:
        """Return a certificate for the host of the tunnel alone. An address stands in no common name, where it would be taken for a host's name."""
        address = conn_context.server.address
        host = address[0] if address else ""
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            return self.certstore.get_cert(host, [x509.DNSName(host)])
        return self.certstore.get_cert(None, [name])


class TunnelTls(ClientTLSLayer):
    """The TLS of one tunnel. What it carries is decided by the protocol that was agreed on."""

    inside: Callable[[Context], layer.Layer] | None = None  # None leaves the choice to mitmproxy
    _hello_bytes = 0

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if not self.client_hello_parsed and isinstance(event, events.DataReceived) and event.connection is self.conn:
            self._hello_bytes += len(event.data)
            if self._hello_bytes > HELLO_BYTES_MAX or not self._may_begin(event.data):
                # Not TLS: nothing else is spoken in a tunnel, and what it was must not be logged.
                yield commands.CloseConnection(self.conn)
                return
        yield from super()._handle_event(event)

    def _may_begin(self, data: bytes) -> bool:
        beginning = bytes(self.recv_buffer[:2]) + data[:2]
        return bytes([_HANDSHAKE_RECORD, _TLS_MAJOR]).startswith(beginning[:2])

    def start_tls(self) -> layer.CommandGenerator[None]:
        """Agree on TLS as the host of the tunnel, or not at all."""
        address = self.context.server.address
        host = address[0] if address else ""
        if (self.conn.sni or host).lower() != host:
            log.info("sni_refused")
            yield commands.SendData(self.conn, _UNRECOGNIZED_NAME)
            yield commands.CloseConnection(self.conn)
            return
        yield from super().start_tls()

    def on_handshake_error(self, err: str) -> layer.CommandGenerator[None]:
        """Say what is wrong most of the time: the client was not told of our authority."""
        if "unknown ca" in err or "bad certificate" in err or "certificate unknown" in err:
            log.warning(
                "client_does_not_trust_us", host=(self.context.server.address or ("",))[0], advice="give the client the certificate that /ca.pem serves"
            )
        yield from super().on_handshake_error(err)

    def _handshake_finished(self, err: str | None) -> layer.CommandGenerator[None]:
        if err is None and self.inside is not None:
            self.child_layer = self.inside(self.context)
        yield from super()._handshake_finished(err)
