"""A viser server that only answers those who know its secret address.

viser answers anybody on this machine, and any web page that is open in its browser: a page of
another origin may open a WebSocket to 127.0.0.1. Here every request must name a random token as the
first part of its path, this machine as its host, and, as browsers do, no other origin.
"""

import contextlib
import functools
import http
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from dreamfusion_jax.errors import UserError

HOST = "127.0.0.1"
_LOCAL = (HOST, "localhost", "::1")


def start_guarded_server(port: int, **settings: Any) -> tuple[Any, str]:
    """Start viser on this machine.

    Args:
      port: of the page.
      **settings: of `viser.ViserServer`.

    Returns:
      The server, and the address of its page.

    Raises:
      ImportError: viser is missing.
      UserError: this version of viser cannot be guarded.
    """
    import viser

    token = secrets.token_urlsafe(16)
    with _guarded(token):
        server = viser.ViserServer(host=HOST, port=port, **settings)
    base = f"http://{HOST}:{server.get_port()}/"
    if _answers(base) or not _answers(f"{base}{token}/"):
        server.stop()
        raise UserError(
            "This version of viser cannot be kept from answering foreign web pages; "
            "pip install 'dreamfusion_jax[view]' again."
        )
    return server, f"{base}{token}/"


def is_allowed(path: str, headers: Any, token: str) -> bool:
    """Return whether a request may be answered.

    Args:
      path: of the request, with its query.
      headers: of the request, `get` ignores case.
      token: that the path must begin with.
    """
    first = path.partition("?")[0].split("/")[1:2]
    host = headers.get("Host") or ""
    origin = headers.get("Origin")
    known = first and secrets.compare_digest(first[0].encode(), token.encode())
    local = _hostname(f"//{host}") in _LOCAL
    # A page has the origin that it was fetched from: with a tunnel, the port of its other end.
    own = origin is None or urllib.parse.urlsplit(origin).netloc == host
    return bool(known and local and own)


def _hostname(address: str) -> str | None:
    try:
        return urllib.parse.urlsplit(address).hostname
    except ValueError:  # brackets that are no IPv6 address
        return None


@contextlib.contextmanager
def _guarded(token: str) -> Iterator[None]:
    """Within the context a server of websockets that starts asks `is_allowed` first."""
    import websockets.asyncio.server as servers

    whole = servers.serve

    @functools.wraps(whole)
    def serve(*arguments, process_request: Callable | None = None, **settings):
        def guard(connection, request):
            if not is_allowed(request.path, request.headers, token):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "Forbidden\n")
            request.path = request.path[1 + len(token) :] or "/"
            return process_request(connection, request) if process_request else None

        return whole(*arguments, process_request=guard, **settings)

    servers.serve = serve  # type: ignore[misc, assignment]  # a class in the stubs
    try:
        yield
    finally:
        servers.serve = whole  # type: ignore[misc]


def _answers(address: str) -> bool:
    # No proxy between this process and its own server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=10) as response:
            return response.status == http.HTTPStatus.OK
    except urllib.error.URLError:
        return False
