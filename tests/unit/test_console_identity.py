"""What an ID token must be before the console believes it, and where a sign-in may lead."""

import base64
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from control.console.identity import Expected, NotBelieved, UnknownSigner, is_allowed, read_id_token, verified_address
from control.console.sign_in import safe_return

EXPECTED = Expected(issuer="https://issuer.example", client_id="console", nonce="n-1")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def published(key: Any, key_id: str = "k", **more: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id, "use": "sig", **more}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {
        "iss": EXPECTED.issuer, "aud": "console", "sub": "1", "iat": now, "exp": now + 300, "nonce": "n-1", "email": "ops@example.com", "email_verified": True,
    }  # fmt: skip
    changed = {name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value for name, value in changes.items()}
    return {name: value for name, value in {**told, **changed}.items() if value is not None}


def token(told: dict[str, Any] | None = None, *, key: Any = KEY, algorithm: str = "RS256", key_id: str | None = "k") -> str:
    return jwt.encode(claims() if told is None else told, key, algorithm=algorithm, headers={"kid": key_id} if key_id else {})


def test_a_token_of_the_issuer_for_this_sign_in_is_believed() -> None:
    assert verified_address(read_id_token(token(), [published(KEY)], EXPECTED)) == "ops@example.com"
    assert read_id_token(token(key=CURVE, algorithm="ES256"), [published(CURVE)], EXPECTED)["sub"] == "1"
    assert read_id_token(token(algorithm="PS256"), [published(KEY)], EXPECTED)["sub"] == "1"
    assert read_id_token(token(key_id=None), [published(KEY)], EXPECTED)["sub"] == "1"
    assert read_id_token(token(claims(aud=["console"])), [published(KEY)], EXPECTED)["sub"] == "1"
    assert read_id_token(token(claims(aud=["console", "other"], azp="console")), [published(KEY)], EXPECTED)["sub"] == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"}, {"iss": "https://issuer.example/"}, {"iss": None}, {"aud": "other"}, {"aud": []}, {"aud": None},
        {"aud": ["console", "other"]}, {"azp": "other"}, {"exp": timedelta(minutes=-2)}, {"exp": None}, {"iat": timedelta(minutes=10)}, {"iat": None},
        {"nbf": timedelta(minutes=10)}, {"nonce": "n-2"}, {"nonce": None}, {"nonce": ["n-1"]}, {"sub": None},
    ],
)  # fmt: skip
def test_a_claim_that_is_wrong_or_missing_makes_a_token_worthless(changes: dict[str, Any]) -> None:
    with pytest.raises(NotBelieved):
        read_id_token(token(claims(**changes)), [published(KEY)], EXPECTED)


def test_a_signature_of_somebody_else_makes_a_token_worthless() -> None:
    for forged, keys in (
        (token(key=OTHER_KEY), [published(KEY)]),
        (token(), [published(OTHER_KEY)]),
        (token(key_id="other"), [published(KEY)]),
        (token(), []),
        (token(), [published(KEY, use="enc")]),
        (token(algorithm="PS256"), [published(KEY, alg="RS256")]),
        (token(key_id=None), [published(KEY), published(OTHER_KEY, "k2")]),
    ):
        with pytest.raises(NotBelieved):
            read_id_token(forged, keys, EXPECTED)


def test_a_token_without_a_signature_or_signed_with_what_is_public_is_worthless() -> None:
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(public).decode().rstrip("="), "kid": "k", "use": "sig"}
    body = token().split(".")[1]

    def unsigned(algorithm: str) -> str:
        head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "k"}).encode()).decode().rstrip("=")
        return f"{head}.{body}."

    for forged in (unsigned("none"), unsigned("None"), unsigned("RS256"), unsigned(""), token(key="a-shared-secret-of-32-bytes-or-more", algorithm="HS256")):
        for keys in ([published(KEY)], [secret], [secret, published(KEY)]):
            with pytest.raises(NotBelieved):
                read_id_token(forged, keys, EXPECTED)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é", token()[:-4], token() + "x", "[]", "\ud800"])
def test_what_is_no_token_is_not_believed(text: str) -> None:
    with pytest.raises(NotBelieved):
        read_id_token(text, [published(KEY)], EXPECTED)


def test_a_key_that_is_not_published_yet_is_told_apart() -> None:
    with pytest.raises(UnknownSigner):
        read_id_token(token(key_id="new"), [published(KEY)], EXPECTED)


@pytest.mark.parametrize(
    "told",
    [
        {}, {"email": None}, {"email": 7}, {"email": ""}, {"email": "ops@example.com"}, {"email": "ops@example.com", "email_verified": "true"},
        {"email": "ops@example.com", "email_verified": 1}, {"email": "ops@exam\u212aple.com", "email_verified": True},
        {"email": "ops@evil.example@example.com", "email_verified": True}, {"email": "ops\n@example.com", "email_verified": True},
        {"email": "x" * 250 + "@example.com", "email_verified": True},
    ],
)  # fmt: skip
def test_only_a_plain_address_that_was_verified_names_somebody(told: dict[str, Any]) -> None:
    with pytest.raises(NotBelieved):
        verified_address(told)


def test_a_list_names_people_and_whole_domains() -> None:
    allowed = ("ops@example.com", "@corp.example")

    assert is_allowed("ops@example.com", allowed)
    assert is_allowed("anybody@corp.example", allowed)
    for address in ("other@example.com", "ops@example.com.evil.example", "x@evil.corp.example", "@corp.example", "corp.example", "x@notcorp.example", ""):
        assert not is_allowed(address, allowed), address
    assert not is_allowed("ops@example.com", ())


@pytest.mark.parametrize(
    "to",
    [
        None, "", "https://evil.example", "//evil.example", "/\\evil.example", "/admin@evil.example", "/admin/../dashboard", "/admin?x=//evil", "/admin#x",
        "javascript:alert(1)", "/administrator", "/admin//evil.example", "/admin/%2f%2fevil.example", "/admin/x\n//evil", "/admin;url=//evil", "/admin/",
        "/admin\n", "/admin/" + "x" * 300, 'x"><script>',
    ],
)  # fmt: skip
def test_a_sign_in_leads_to_pages_of_the_console_alone(to: str | None) -> None:
    assert safe_return(to) == "/admin"
    assert safe_return("/admin/accounts/org_00ff") == "/admin/accounts/org_00ff"
