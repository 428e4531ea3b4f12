"""What the control API loads when it starts."""

import subprocess
import sys

LOADED_WHEN_NEEDED = ("solders", "solana", "httpx2", "segno", "chainwatch", "mitmproxy")


def test_what_only_payers_need_is_not_loaded_at_the_start() -> None:
    """solders and solana alone are 13 MB, and most control processes serve balances for days before anybody pays by wallet."""
    program = f"import sys, control.__main__; print([name for name in {LOADED_WHEN_NEEDED} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")
