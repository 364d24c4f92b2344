"""Who does not know the page's address gets nothing, a foreign web page least of all."""

import asyncio
import socket
import urllib.error
import urllib.request

import pytest

from dreamfusion_jax.viewer.guarded_server import is_allowed, start_guarded_server
from dreamfusion_jax.viewer.live_viewer import as_markdown

HOSTS = {"Host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("path", "headers", "allowed"),
    [
        ("/secret/", HOSTS, True),
        ("/secret", HOSTS | {"Origin": "http://127.0.0.1:8080"}, True),
        ("/secret/?x=1", {"Host": "localhost:9000", "Origin": "http://localhost:9000"}, True),
        ("/", HOSTS, False),
        ("/secre/", HOSTS, False),
        ("/secret/", {}, False),
        ("/secret/", {"Host": "evil.example"}, False),
        ("/secret/", {"Host": "[broken"}, False),
        ("/secret/", HOSTS | {"Origin": "https://evil.example"}, False),
        ("/secret/", HOSTS | {"Origin": "http://127.0.0.1:9999"}, False),
        ("/secret/", HOSTS | {"Origin": "null"}, False),
    ],
)
def test_requests_need_the_token_and_no_foreign_origin(path, headers, allowed):
    assert is_allowed(path, headers, "secret") == allowed


def test_the_server_refuses_foreign_pages():
    pytest.importorskip("viser")
    client = pytest.importorskip("websockets.asyncio.client")
    exceptions = pytest.importorskip("websockets.exceptions")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server, address = start_guarded_server(port, verbose=False)
    try:
        assert b"<html" in urllib.request.urlopen(address).read()
        base = f"http://127.0.0.1:{port}"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(base)
        socket_address = address.replace("http", "ws").rstrip("/")

        async def opens(where, origin):
            import viser

            protocols = [f"viser-v{viser.__version__}"]
            how = {"origin": origin, "subprotocols": protocols, "compression": None}
            async with client.connect(where, **how):
                return True

        assert asyncio.run(opens(socket_address, base))
        for where, origin in (
            (socket_address, "https://evil.example"),
            (f"ws://127.0.0.1:{port}", base),
        ):
            with pytest.raises(exceptions.InvalidStatus, match="403"):
                asyncio.run(opens(where, origin))
    finally:
        server.stop()


@pytest.mark.parametrize(
    "text", ["<iframe src=x>", "[a](javascript:b)", "![a](http://b)", "{1+1}", "# a\n* b"]
)
def test_prompts_are_no_markup(text):
    shown = as_markdown(text)
    assert "<" not in shown and "\n" not in shown
    for mark in "[]{}(#*":
        assert shown.count(mark) == shown.count("\\" + mark)
