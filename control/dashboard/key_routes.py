"""An account's keys, tokens and workspaces."""

from typing import Final

from control.dashboard import key_changes, keys
from control.openapi import Endpoint
from control.web.routing import PageRoute


def _page(path: str, summary: str, method: str = "POST") -> Endpoint:
    return Endpoint(path=f"/dashboard/{{api_token}}/keys{path}", method=method, summary=summary, tag="pages", media_type="text/html", described=False)


KEY_ROUTES: Final[tuple[PageRoute, ...]] = (
    (_page("", "What opens the account.", "GET"), keys.keys_page),
    (_page("/tokens", "Makes a token."), key_changes.create_token),
    (_page("/tokens/{token_id}/rotate", "Makes a token in the place of another one."), key_changes.rotate_token),
    (_page("/tokens/{token_id}/revoke", "Revokes a token."), key_changes.revoke_token),
    (_page("/ingest", "Makes an ingest key."), key_changes.create_key),
    (_page("/ingest/{key_id}/revoke", "Revokes an ingest key."), key_changes.revoke_key),
    (_page("/workspaces/{workspace_id}/budget", "Sets a workspace's budget."), key_changes.set_budget),
)
