"""The measurement of pages works, small: its history is what the pages show, and each page is asked for and counted."""

import pytest

from bench import pages


@pytest.mark.timeout(600)
def test_every_page_is_measured_behind_a_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["--events", "2000", "--rounds", "1", "--cpu-ms-max", "60000", "--no-file"]) == 0

    told = capsys.readouterr().out
    measured = len(pages.ACCOUNT_PAGES) + len(pages.PUBLIC_PAGES) + len(pages.CONSOLE_PAGES) + 2
    assert f"no pages of {measured} cost" in told
    assert "/dashboard/…/transactions/3 (report)" in told
    assert "with 2000 usage events stored" in told
