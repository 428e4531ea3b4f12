"""A body is changed only where it must be, byte for byte."""

import pytest

from metering.classify import Dialect, Operation, Route
from metering.requests import MeteredRequest, read_request
from metering.rewrite import rewrite_body


def read(body: bytes, operation: Operation = Operation.CHAT_COMPLETIONS) -> MeteredRequest:
    return read_request(Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/anything"), body)


def asked(body: bytes) -> bytes:
    return rewrite_body(read(body), provider_model=None, include_usage=True, output_limit=None)


def limited(body: bytes, operation: Operation = Operation.CHAT_COMPLETIONS) -> bytes:
    return rewrite_body(read(body, operation), provider_model=None, include_usage=False, output_limit=77)


def renamed(body: bytes, name: str) -> bytes:
    return rewrite_body(read(body), provider_model=name, include_usage=False, output_limit=None)


@pytest.mark.parametrize("body", [b'{"model":"m"}', b' {\n"model" : "m" , "stream_options":{"include_usage": true}}\n'])
def test_what_need_not_change_stays_the_very_same_bytes(body: bytes) -> None:
    request = read(body)

    assert rewrite_body(request, provider_model=None, include_usage=False, output_limit=None) is body
    assert rewrite_body(request, provider_model="m", include_usage=request.wants_usage, output_limit=None) is body


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m"}', b'{"model":"m","stream_options":{"include_usage":true}}'),
        (b'{"model":"m" }\r\n', b'{"model":"m" ,"stream_options":{"include_usage":true}}\r\n'),
        (b'{"stream_options":null,"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b'{"stream_options": {} ,"model":"m"}', b'{"stream_options": {"include_usage":true} ,"model":"m"}'),
        (b'{"stream_options":{ "a" : 1 },"model":"m"}', b'{"stream_options":{ "a" : 1 ,"include_usage":true},"model":"m"}'),
        (b'{"stream_options":{"include_usage": false ,"a":1},"model":"m"}', b'{"stream_options":{"include_usage": true ,"a":1},"model":"m"}'),
        (b'{"stream_options":{"include_usage":null},"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (rb'{"stream\u005foptions":{"include_us\u0061ge":false},"model":"m"}', rb'{"stream\u005foptions":{"include_us\u0061ge":true},"model":"m"}'),
        (b'{"model":"m","stream_options":{"x":"\xe4\xb8\xad"}}', b'{"model":"m","stream_options":{"x":"\xe4\xb8\xad","include_usage":true}}'),
    ],
)
def test_usage_is_asked_for_and_other_stream_options_stay(before: bytes, after: bytes) -> None:
    assert asked(before) == after


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (Operation.CHAT_COMPLETIONS, b'{"model":"m"}', b'{"model":"m","max_completion_tokens":77}'),
        (Operation.MESSAGES, b'{"model":"m"}', b'{"model":"m","max_tokens":77}'),
        (Operation.RESPONSES, b'{"model":"m"}', b'{"model":"m","max_output_tokens":77}'),
        (Operation.RESPONSES, b'{"max_output_tokens":null,"model":"m"}', b'{"max_output_tokens":77,"model":"m"}'),
        (Operation.CHAT_COMPLETIONS, b'{"max_tokens":900,"model":"m"}', b'{"max_tokens":77,"model":"m"}'),
        (Operation.EMBEDDINGS, b'{"model":"m"}', b'{"model":"m"}'),
    ],
)
def test_an_output_limit_is_put_where_the_operation_takes_it(operation: Operation, before: bytes, after: bytes) -> None:
    assert limited(before, operation) == after


def test_the_model_is_renamed_in_place_also_behind_characters_of_several_bytes() -> None:
    body = '{"messages":"中😀é" , "mod\\u0065l" : "\\u006d","x":"é"}'.encode()
    before = read(b'{"model":"m"}')

    with_name = body.replace(b'"messages":', b'"note":')

    assert renamed(with_name, 'vendor/"m"é') == '{"note":"中😀é" , "mod\\u0065l" : "vendor/\\"m\\"é","x":"é"}'.encode()
    assert rewrite_body(before, provider_model="m", include_usage=False, output_limit=None) is before.body


def test_several_changes_at_once_leave_the_rest_alone() -> None:
    request = read(b'{"stream":true,"model":"m","messages":[ ],"stream_options":null}')

    changed = rewrite_body(request, provider_model="n", include_usage=True, output_limit=5)

    assert changed == b'{"stream":true,"model":"n","messages":[ ],"stream_options":{"include_usage":true},"max_completion_tokens":5}'
