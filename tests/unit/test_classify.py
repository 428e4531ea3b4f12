"""Where a request line leads, and which ones are refused."""

import pytest

from metering.classify import ControlRoute, Dialect, Operation, RequestRefused, Route, classify

SERVED = [
    ("/v1/messages", Operation.MESSAGES, Dialect.ANTHROPIC),
    ("/v1/messages/count_tokens", Operation.COUNT_TOKENS, Dialect.ANTHROPIC),
    ("/v1/chat/completions", Operation.CHAT_COMPLETIONS, Dialect.OPENAI),
    ("/v1/responses", Operation.RESPONSES, Dialect.OPENAI),
    ("/v1/responses/input_tokens", Operation.INPUT_TOKENS, Dialect.OPENAI),
    ("/v1/responses/compact", Operation.COMPACT, Dialect.OPENAI),
    ("/v1/embeddings", Operation.EMBEDDINGS, Dialect.OPENAI),
]


def route(method: str, target: str, *, anthropic: bool = False) -> Route:
    found = classify(method, target, anthropic=anthropic)
    assert isinstance(found, Route)
    return found


def refusal(method: str, target: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        classify(method, target)
    return caught.value


@pytest.mark.parametrize(("path", "operation", "dialect"), SERVED)
@pytest.mark.parametrize("prefix", ["", "/v1", "/proxy/T", "/proxy/T/v1"])
def test_every_provider_path_is_understood_with_and_without_a_token_and_with_a_doubled_base(
    path: str, operation: Operation, dialect: Dialect, prefix: str
) -> None:
    found = route("POST", prefix + path)

    assert (found.operation, found.dialect, found.upstream_path) == (operation, dialect, path)
    assert found.token_text == ("T" if "proxy" in prefix else None)
    assert found.provider is None


@pytest.mark.parametrize(("path", "operation", "dialect"), SERVED)
@pytest.mark.parametrize("prefix", ["", "/proxy/T"])
def test_a_base_without_v1_is_understood(path: str, operation: Operation, dialect: Dialect, prefix: str) -> None:
    found = route("POST", prefix + path.removeprefix("/v1"))

    assert (found.operation, found.dialect, found.upstream_path) == (operation, dialect, path)


@pytest.mark.parametrize("prefix", ["/api/v1", "/proxy/T/api/v1", "/proxy/T/api", "/api"])
def test_an_api_base_is_openrouters(prefix: str) -> None:
    found = route("POST", f"{prefix}/chat/completions")

    assert found.dialect is Dialect.OPENROUTER
    assert (found.provider, found.upstream_path) == ("openrouter", "/v1/chat/completions")


def test_openrouters_messages_speak_the_format_of_anthropic() -> None:
    found = route("POST", "/api/v1/messages")

    assert (found.dialect, found.provider) == (Dialect.ANTHROPIC, "openrouter")


@pytest.mark.parametrize(
    "spelling",
    [
        "//proxy//T//v1//messages",
        "/proxy/T/v1/messages/",
        "/%70roxy/T/v1/m%65ssages",
        "/proxy%2FT%2fv1/messages",
        "/proxy/T/v1/v1/messages",
        "/proxy/%54/messages",
    ],
)
def test_other_spellings_of_a_path_are_forwarded_in_the_one_canonical_form(spelling: str) -> None:
    assert route("POST", spelling) == route("POST", "/proxy/T/v1/messages")


def test_a_path_is_decoded_once_only() -> None:
    assert refusal("POST", "/proxy/T/v1/m%2565ssages").status == 404


def test_the_query_is_kept_for_the_provider() -> None:
    assert route("POST", "/proxy/T/v1/messages?beta=true").query == "beta=true"


@pytest.mark.parametrize(
    "target",
    [
        "messages",
        "",
        "*",
        "http://host/v1/messages",
        "/v1/../messages",
        "/v1/./messages",
        "/proxy/T/%2e%2e/U/v1/messages",
        "/v1/mess\\ages",
        "/v1/messages%5c",
        "/v1/messages%00",
        "/v1/messages%0d%0a",
        "/v1/messages\r\nx: y",
        "/v1/messages #",
        "/v1/messages#part",
        "/v1/m\u00e9ssages",
        "/v1/messages%ff",
        "/v1/messages?a=\x7f",
        "/" + "a" * 9000,
    ],
)
def test_a_malformed_or_ambiguous_target_is_refused(target: str) -> None:
    error = refusal("POST", target)

    assert (error.status, error.code) == (400, "invalid_path")


@pytest.mark.parametrize("target", ["/proxy/T", "/proxy/T/", "/proxy/T/v1", "/v1", "/v1/", "/api/v1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_bare_base_is_a_probe(method: str, target: str) -> None:
    found = route(method, target)

    assert found.operation is Operation.PROBE
    assert not found.billable
    assert not found.free_upstream


def test_the_root_is_a_probe_to_clients_and_a_page_to_people() -> None:
    assert route("HEAD", "/").operation is Operation.PROBE
    assert classify("GET", "/") == ControlRoute(path="/")


@pytest.mark.parametrize("prefix", ["", "/proxy/T"])
def test_models_are_listed_in_the_dialect_of_the_caller(prefix: str) -> None:
    assert route("GET", f"{prefix}/v1/models").dialect is Dialect.OPENAI
    assert route("GET", f"{prefix}/v1/models", anthropic=True).dialect is Dialect.ANTHROPIC
    assert route("GET", f"{prefix}/api/v1/models").dialect is Dialect.OPENROUTER


@pytest.mark.parametrize("spelling", ["qwen/qwen3-max", "qwen%2Fqwen3-max"])
def test_one_model_is_asked_for_by_its_whole_name(spelling: str) -> None:
    found = route("GET", f"/v1/models/{spelling}")

    assert (found.operation, found.model) == (Operation.GET_MODEL, "qwen/qwen3-max")


def test_only_what_is_charged_is_billable_and_counts_are_forwarded_free() -> None:
    billable = {operation for path, operation, _ in SERVED if route("POST", path).billable}
    free = {operation for path, operation, _ in SERVED if route("POST", path).free_upstream}

    assert free == {Operation.COUNT_TOKENS, Operation.INPUT_TOKENS}
    assert billable == {operation for _, operation, _ in SERVED} - free


@pytest.mark.parametrize(
    "target",
    [
        "/health", "/v1/pricing", "/v1/register", "/v1/usage", "/v1/keys", "/proxy/T/balance", "/proxy/T/transactions", "/proxy/T/claims",
        "/proxy/T/claims/claim_1", "/v1/pay/475007C3664E21F4", "/pay/475007C3664E21F4.svg", "/dashboard/T", "/v1/nothing", "/files",
    ],
)  # fmt: skip
def test_everything_else_is_the_control_apis(target: str) -> None:
    assert classify("GET", f"{target}?page=2") == ControlRoute(path=target, query="page=2")


def test_a_control_path_goes_on_in_canonical_form() -> None:
    assert classify("GET", "//dashboard/%C3%A9%20a/") == ControlRoute(path="/dashboard/%C3%A9%20a")


@pytest.mark.parametrize(
    ("method", "target", "status", "dialect"),
    [
        ("POST", "/proxy/T/v1/unknown", 404, Dialect.OPENAI),
        ("POST", "/proxy/T/v1/messages/unknown", 404, Dialect.ANTHROPIC),
        ("POST", "/proxy/T/api/v1/unknown", 404, Dialect.OPENROUTER),
        ("GET", "/proxy", 404, Dialect.OPENAI),
        ("POST", "/proxy/T/claims/1/more", 404, Dialect.OPENAI),
        ("POST", "/v1/messages/batches", 422, Dialect.ANTHROPIC),
        ("POST", "/v1/batches", 422, Dialect.OPENAI),
        ("POST", "/v1/files", 404, Dialect.OPENAI),
        ("POST", "/v1/complete", 404, Dialect.ANTHROPIC),
        ("POST", "/v1/completions", 404, Dialect.OPENAI),
        ("POST", "/v1/images/generations", 404, Dialect.OPENAI),
        ("GET", "/v1/responses/resp_1", 422, Dialect.OPENAI),
        ("POST", "/v1/responses/resp_1/cancel", 422, Dialect.OPENAI),
        ("GET", "/v1/chat/completions/c_1", 422, Dialect.OPENAI),
        ("GET", "/proxy/T/v1/messages", 405, Dialect.ANTHROPIC),
        ("PUT", "/v1/chat/completions", 405, Dialect.OPENAI),
        ("GET", "/v1/responses", 405, Dialect.OPENAI),
        ("POST", "/v1/models", 405, Dialect.OPENAI),
        ("POST", "/proxy/T", 405, Dialect.OPENAI),
        ("post", "/v1/messages", 405, Dialect.ANTHROPIC),
    ],
)
def test_what_is_not_served_is_refused_in_the_dialect_that_fits(method: str, target: str, status: int, dialect: Dialect) -> None:
    error = refusal(method, target)

    assert (error.status, error.dialect) == (status, dialect)
    assert error.message.endswith((".", "..."))


def test_a_wrong_method_is_told_the_right_one() -> None:
    assert refusal("GET", "/v1/messages").details == {"allow": "POST"}
    assert refusal("DELETE", "/v1/models/m").details == {"allow": "GET, HEAD"}


def test_an_unknown_path_is_refused_in_the_format_of_an_anthropic_caller() -> None:
    with pytest.raises(RequestRefused) as caught:
        classify("GET", "/proxy/T/v1/unknown", anthropic=True)

    assert caught.value.dialect is Dialect.ANTHROPIC


def test_tokens_are_not_shown_when_a_route_is_printed() -> None:
    assert "secret-token" not in repr(route("POST", "/proxy/secret-token/v1/messages"))
    assert "secret-token" not in repr(classify("GET", "/proxy/secret-token/balance"))
