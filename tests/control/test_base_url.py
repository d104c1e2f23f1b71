from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetops.control.base_url import DEFAULT_BASE_URL, is_loopback, parse_base_url, path_segment, proxy_for
from fleetops.errors import UsageError

BASE = "https://control.example/api/v1"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (DEFAULT_BASE_URL, DEFAULT_BASE_URL),
        (f"  {BASE}///\n", BASE),
        ("HTTPS://Control.EXAMPLE/Api", "https://control.example/Api"),
        ("https://control.example:443/", "https://control.example"),
        ("https://control.example:8443/x", "https://control.example:8443/x"),
        ("https://10.1.2.3", "https://10.1.2.3"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.99.0.1", "http://127.99.0.1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_base_url_is_brought_into_one_spelling(text: str, parsed: str) -> None:
    assert parse_base_url(text) == parsed
    assert parse_base_url(parsed) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "control.example",
        "/api/v1",
        "ftp://control.example",
        "https://",
        "https:///api",
        "https://control.example:0",
        "https://control.example:65536",
        "https://control.example:x",
        "https://user:s3cret@control.example",
        "https://s3cret@control.example",
        "https://control.example/?token=s3cret",
        "https://control.example/#s3cret",
        "https://control.example?",
        "https://control example/",
        "https://control.example\\@evil.example",
        "https://exa_mple..com",
        "https://-",
        "https://[::1",
        "https://control.example/\x00",
        "https://control.example/\nHost: x",
        "https://%31.example",
        "\ud800",
    ],
)
def test_what_is_no_base_url_is_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_base_url(text)
    assert caught.value.hint
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "host",
    [
        "control.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "localhost.",
        "localhost.example",
        "127.0.0.1.example",
        "notlocalhost",
    ],
)
def test_plain_http_is_refused_but_to_this_machine_itself(host: str) -> None:
    with pytest.raises(UsageError):
        parse_base_url(f"http://{host}/api")
    with pytest.raises(UsageError):
        parse_base_url(f"HTTP://{host}:8080")


def test_loopback_is_told_from_the_rest() -> None:
    assert is_loopback("https://127.0.0.1")
    assert is_loopback("http://[::1]:9")
    assert is_loopback("http://localhost")
    assert not is_loopback(BASE)


@pytest.mark.parametrize(
    ("serial", "segment"),
    [
        ("ABC-123_4.5:6", "ABC-123_4.5%3A6"),
        ("a/b", "a%2Fb"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../..", "..%2F.."),
        ("a?b#c", "a%3Fb%23c"),
        ("%2F", "%252F"),
        ("100%", "100%25"),
        ("a b\r\nX: y", "a%20b%0D%0AX%3A%20y"),
        ("é中\U0001f600", "%C3%A9%E4%B8%AD%F0%9F%98%80"),
        ("a;b=c&d+e@f", "a%3Bb%3Dc%26d%2Be%40f"),
        ("\x00\x7f", "%00%7F"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_a_serial_number_is_one_segment_whatever_is_in_it(serial: str, segment: str) -> None:
    assert path_segment(serial) == segment


@given(st.text(min_size=1, max_size=40))
@settings(deadline=None)
def test_a_serial_number_stays_one_segment_all_the_way_to_the_wire(serial: str) -> None:
    target = httpx.Request("PUT", f"{BASE}/op/{path_segment(serial)}/").url.raw_path.decode("ascii")
    before, op, segment, after = target.rsplit("/", 3)
    assert (before, op, after) == ("/api/v1", "op", "")
    assert unquote(segment, errors="strict") == serial
    assert segment not in {".", ".."}


class TestProxy:
    PROXY = "http://proxy.example:3128"

    def test_there_is_none_unless_the_environment_sets_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert proxy_for(BASE) is None
        monkeypatch.setenv("https_proxy", self.PROXY)
        assert (proxy := proxy_for(BASE)) is not None
        assert str(proxy.url) == self.PROXY

    @pytest.mark.parametrize("name", ["https", "all"])
    @pytest.mark.parametrize("value", [PROXY, "proxy.example:3128", "https://user:word@proxy.example"])
    def test_it_is_used(self, name: str, value: str) -> None:
        assert (proxy := proxy_for(BASE, {name: value})) is not None
        assert proxy.url.host == "proxy.example"

    @pytest.mark.parametrize("environment", [{"http": PROXY}, {"https": ""}, {"https": PROXY, "no": "control.example"}])
    def test_it_is_not_used_where_it_is_not_meant(self, environment: dict[str, str]) -> None:
        assert proxy_for(BASE, environment) is None

    @pytest.mark.parametrize("base_url", ["http://localhost:8080", "https://127.0.0.1", "http://[::1]"])
    def test_this_machine_itself_is_never_asked_for_through_it(self, base_url: str) -> None:
        assert proxy_for(base_url, {"https": self.PROXY, "http": self.PROXY, "all": self.PROXY}) is None

    @pytest.mark.parametrize("value", ["socks5://user:s3cret@proxy.example", "http://", "http://[s3cret", "::s3cret"])
    def test_one_that_cannot_be_used_is_refused_without_showing_it(self, value: str) -> None:
        with pytest.raises(UsageError) as caught:
            proxy_for(BASE, {"https": value})
        assert "s3cret" not in caught.value.message + str(caught.value.hint)
        assert "https_proxy" in str(caught.value.hint)
