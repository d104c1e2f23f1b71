"""The base URL of the control plane: what is accepted, and how it is reached."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx

from fleetops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL: Final = "https://control.zequenze.com/api/v1"

_EXAMPLE: Final = f"write it like {DEFAULT_BASE_URL}"
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?"
)
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_-]+")
_HIGHEST_PORT: Final = 65535


def parse_base_url(text: str) -> str:
    """The base URL in one spelling, without a trailing slash.

    `https` anywhere, or `http` to this machine itself (127.0.0.0/8, ::1, localhost), since a token sent in
    the clear is a token given away.

    Raises:
        UsageError: It is not a URL, or has user information, a query or a fragment, or plain `http` to
            another machine. The message shows no part of it that may be a secret.
    """
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, UnicodeError):
        raise UsageError("the base URL is not a URL", hint=_EXAMPLE) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("the base URL does not start with https://", hint=_EXAMPLE)
    if url.userinfo or "@" in text:
        raise UsageError(
            "the base URL has a user name or password in it",
            hint="leave out everything before the @; the token comes from FLEETOPS_TOKEN or --token-file",
        )
    if "?" in text or "#" in text:
        raise UsageError("the base URL has a query or fragment in it", hint=f"end it with the path; {_EXAMPLE}")
    host = _host(url)
    if host is None or "\\" in text or (url.port is not None and not 0 < url.port <= _HIGHEST_PORT):
        raise UsageError("the base URL has no valid host and port", hint=_EXAMPLE)
    if url.scheme == "http" and not _is_loopback_host(host):
        raise UsageError(
            f"the base URL {url.scheme}://{url.netloc.decode()} would send the token in the clear",
            hint="use https://; plain http:// is for a loopback address only, such as http://127.0.0.1:8080",
        )
    return str(url).rstrip("/")


def is_loopback(base_url: str) -> bool:
    """Whether a base URL, as `parse_base_url` gives it, is of this machine itself."""
    host = _host(httpx.URL(base_url))
    return host is not None and _is_loopback_host(host)


def path_segment(serial: str) -> str:
    """A serial number as one segment of a path, percent-encoded, whatever is in it.

    `.` and `..` are spelled out as well: as they are, they would be taken for the path's structure.
    """
    if _UNRESERVED.fullmatch(serial):
        return serial
    quoted = quote(serial, safe="", errors="surrogatepass")
    return quoted.replace(".", "%2E") if serial in {".", ".."} else quoted


def proxy_for(base_url: str, environment_proxies: Mapping[str, str] | None = None) -> httpx.Proxy | None:
    """The proxy that the environment sets for a base URL (`https_proxy`, `all_proxy`, `no_proxy`), or None.

    A loopback address is never asked for through a proxy.

    Raises:
        UsageError: The proxy's URL cannot be used.
    """
    proxies = dict(urllib.request.getproxies_environment() if environment_proxies is None else environment_proxies)
    url = httpx.URL(base_url)
    chosen = proxies.get(url.scheme) or proxies.get("all")
    if not chosen or is_loopback(base_url):
        return None
    if urllib.request.proxy_bypass_environment(url.netloc.decode(), proxies):  # type: ignore[attr-defined]  # typeshed lacks it
        return None
    proxy = None
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        proxy = httpx.Proxy(chosen if "://" in chosen else f"http://{chosen}")
    if proxy is None or proxy.url.scheme not in {"http", "https"} or _host(proxy.url) is None:
        raise UsageError(
            f"the proxy that the environment sets for {url.scheme} cannot be used",
            hint=f"set {url.scheme}_proxy to an http:// or https:// URL, or name {url.host} in no_proxy",
        )
    return proxy


def _host(url: httpx.URL) -> IPv4Address | IPv6Address | str | None:
    """The host as an address or a name, None where it is neither."""
    host = url.raw_host.decode("ascii")
    try:
        return ip_address(host)
    except ValueError:
        return host if _HOST_NAME.fullmatch(host) else None


def _is_loopback_host(host: IPv4Address | IPv6Address | str) -> bool:
    if isinstance(host, IPv4Address):
        return host.is_loopback
    return host == "localhost" if isinstance(host, str) else host == IPv6Address("::1")
