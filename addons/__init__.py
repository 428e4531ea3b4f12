"""The data plane: mitmproxy addons that authenticate, hold, forward, meter and settle each request."""
