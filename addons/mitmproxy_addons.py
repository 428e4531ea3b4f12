"""The addons of mitmproxy that workers need. Its package would import all forty, and with them Flask, an LDAP client and a parser generator."""

from config.bare_packages import open_bare

open_bare("mitmproxy.addons", whole_for=("default_addons",))

from mitmproxy.addons import core, next_layer, proxyserver  # noqa: E402  # the package has to be opened first
from mitmproxy.addons.proxyserver import Proxyserver  # noqa: E402
from mitmproxy.addons.tlsconfig import TlsConfig  # noqa: E402

__all__ = ["Proxyserver", "TlsConfig", "core", "next_layer", "proxyserver"]
