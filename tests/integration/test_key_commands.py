"""`plutus keys …` and `level5 keys …` on a running appliance."""

import re

from tests.fakes.appliance import CLIENT, Appliance

EVENT = {"provider": "p", "cost_usd": 0}


def report(running: Appliance, secret: str) -> int:
    return CLIENT.post(f"{running.url}/v1/usage", json=EVENT, headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_fresh_installation_makes_a_key_lists_it_without_its_secret_and_revokes_it(running: Appliance) -> None:
    created = running.run("keys", "create", "--name", "prod agent").stdout
    secret = re.search(r"plutus_sk_[A-Za-z0-9_-]+", created)
    assert secret is not None
    assert report(running, secret[0]) == 200

    listed = running.run("keys", "list").stdout
    line = next(line for line in listed.splitlines() if "prod agent" in line)
    key = re.search(r"key_[a-z0-9]+", line)
    assert key is not None
    assert secret[0] not in listed

    running.run("keys", "revoke", key[0])
    assert report(running, secret[0]) == 401
    assert "prod agent" not in running.run("keys", "list").stdout
    assert "prod agent" in running.run("keys", "list", "--all").stdout


def test_keys_of_an_organisation_are_its_own(running: Appliance) -> None:
    running.run("accounts", "create", "--name", "Acme", "--tier", "pro")
    made = running.ask("keys", "create", "--org", "Acme", "--name", "one")

    assert [key["id"] for key in running.ask("keys", "list", "--org", "Acme")] == [made["id"]]
    assert made["id"] not in running.run("keys", "list").stdout
    refused = running.run("keys", "revoke", made["id"], "--org", made["org_id"][:-1] + "z", check=False)
    assert (refused.returncode, "no organisation" in refused.stderr) == (1, True)
    assert report(running, made["secret"]) == 200
    assert running.ask("keys", "revoke", made["id"], "--org", "Acme") == {"id": made["id"], "status": "revoked"}
    assert report(running, made["secret"]) == 401


def test_a_change_of_tier_holds_from_the_next_event_on(running: Appliance) -> None:
    org = running.ask("accounts", "create", "--name", "Grows")["public_id"]
    secret = running.ask("keys", "create", "--org", org)["secret"]

    def limit() -> object:
        return CLIENT.post(f"{running.url}/v1/usage", json=EVENT, headers={"Authorization": f"Bearer {secret}"}).json()["tracked_limit"]

    assert limit() == 10_000
    running.run("accounts", "tier", org, "pro", "--reason", "a test")
    assert limit() is None
    assert running.run("accounts", "tier", org, "gold", "--reason", "a test", check=False).returncode == 1


def test_a_key_that_is_none_cannot_be_revoked(running: Appliance) -> None:
    done = running.run("keys", "revoke", "key_0000", check=False)

    assert (done.returncode, done.stderr.strip()) == (1, "level5: no key 'key_0000'; `keys list` shows them")


def test_the_books_are_whole_afterwards(running: Appliance) -> None:
    running.verify()
