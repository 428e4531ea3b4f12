"""How many pages may be followed at a time, and that all of them go when the process does."""

from contextlib import ExitStack

import pytest

from control.dashboard.live import ACCOUNT_MAX, ALL_MAX, Followers
from control.errors import ApiError
from ledger.entries import AccountId

ONE, OTHER = AccountId(1), AccountId(2)


async def test_one_account_takes_so_many_places_and_leaves_those_of_others() -> None:
    followers = Followers()
    with ExitStack() as stack:
        for _ in range(ACCOUNT_MAX):
            followers.require_place(ONE)
            stack.enter_context(followers.place(ONE))
        with pytest.raises(ApiError) as refused:
            followers.require_place(ONE)
        followers.require_place(OTHER)

    assert refused.value.status == 429
    followers.require_place(ONE)  # all of them have left


async def test_there_is_an_end_to_all_places_together() -> None:
    followers = Followers()
    with ExitStack() as stack:
        for number in range(ALL_MAX):
            stack.enter_context(followers.place(AccountId(number + 10)))

        with pytest.raises(ApiError):
            followers.require_place(ONE)


async def test_a_process_that_stops_waits_for_no_page() -> None:
    followers = Followers()

    assert await followers.pause(0.0)
    followers.close()
    assert not await followers.pause(60.0)
