"""What clients of the forward proxy are to trust. It is public: a certificate, never its key."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from control.context import context_of
from control.errors import ApiError


async def certificate(request: Request) -> Response:
    """Serve the certificate of the forward proxy's authority, as every client reads one."""
    settings = context_of(request).settings
    try:
        if not settings.forward.enabled:
            raise FileNotFoundError
        body = await asyncio.to_thread(settings.certificate_file.read_bytes)
    except OSError:
        raise ApiError(404, "no_certificate", message="There is no forward proxy here, so there is no certificate to trust; use the base URL.") from None
    return Response(body, media_type="application/x-pem-file", headers={"Content-Disposition": 'attachment; filename="level5-ca.pem"'})
