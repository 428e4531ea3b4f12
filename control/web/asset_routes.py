"""Where the pages' style sheet, scripts and images are."""

from typing import Final

from control.openapi import Endpoint
from control.web.asset_files import asset
from control.web.routing import PageRoute

ASSET_ROUTES: Final[tuple[PageRoute, ...]] = (
    (Endpoint(path="/assets/{version}/{name}", summary="What pages need.", tag="pages", media_type="text/css", described=False), asset),
)
