"""A browser to look at pages with: headless chromium, driven over WebDriver."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER: Final = shutil.which("chromedriver")

in_a_browser: Final = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and its driver are not installed: apt-get install chromium chromium-driver",
)

_PATIENCE_S: Final = 20


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, downloads: Path) -> None:
        self._client = client
        self.downloads = downloads
        self.command("Page.addScriptToEvaluateOnNewDocument", source="window.alert = () => { document.title = 'run'; }")
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": name, "params": parameters})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        reply = self._client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["value"]

    def open(self, address: str) -> None:
        self._post("url", {"url": address})

    def js(self, expression: str) -> Any:
        """What an expression comes to in the page."""
        return self._post("execute/sync", {"script": f"return ({expression})", "args": []})

    def wait_for(self, condition: str) -> Any:
        """What a condition comes to once it holds."""
        until_s = time.monotonic() + _PATIENCE_S
        while not (found := self.js(condition)):
            assert time.monotonic() < until_s, f"never came true: {condition}"
            time.sleep(0.02)
        return found

    def press(self, *keys: str) -> None:
        for key in keys:
            self.command("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
            self.command("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def downloaded(self, name: str) -> str:
        """A file that the page has handed out."""
        path = self.downloads / name
        until_s = time.monotonic() + _PATIENCE_S
        while not path.exists():
            assert time.monotonic() < until_s, f"{name} was not downloaded"
            time.sleep(0.02)
        text = path.read_bytes().decode()
        path.unlink()
        return text


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser whose files are in the folder."""
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", f"--user-data-dir={folder}/p"]
        options = {"goog:chromeOptions": {"binary": CHROMIUM, "args": flags}}
        with httpx.Client(timeout=60, trust_env=False) as client:
            asked = {"capabilities": {"alwaysMatch": options}}
            made = client.post(f"http://127.0.0.1:{port}/session", json=asked).json()["value"]
            assert "sessionId" in made, made
            client.base_url = httpx.URL(f"http://127.0.0.1:{port}/session/{made['sessionId']}/")
            try:
                yield Browser(client, folder)
            finally:
                client.delete(str(client.base_url).rstrip("/"))
    finally:
        driver.terminate()
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()
