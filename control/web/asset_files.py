"""Style sheet, scripts and images of the pages, under an address that changes with their content."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control.errors import ApiError

FOLDER: Final = Path(__file__).parent / "assets"
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
KEPT: Final = "public, max-age=31536000, immutable"


@lru_cache(maxsize=1)
def _assets() -> tuple[str, dict[str, bytes]]:
    """Return the hash of all assets and each one's bytes. One hash for all, so that modules find each other by relative names."""
    found = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + content for name, content in found.items()))
    return digest.hexdigest()[:16], found


def asset_path(name: str) -> str:
    """Return where an asset is.

    Raises:
        KeyError: there is none of this name, which is a fault of the template.
    """
    version, found = _assets()
    if name not in found:
        raise KeyError(name)
    return f"/assets/{version}/{name}"


async def asset(request: Request) -> Response:
    """Serve an asset. One that is asked for by an older hash, by a page that was open during an upgrade, is not to be kept."""
    version, found = _assets()
    name = request.path_params["name"]
    if name not in found:
        raise ApiError(404, "not_found", message="There is no such asset.")
    kept = KEPT if request.path_params["version"] == version else "no-store"
    return Response(found[name], media_type=MEDIA_TYPES[Path(name).suffix], headers={"Cache-Control": kept})
