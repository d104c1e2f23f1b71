"""The state directory: where journals lie, and the locks that keep two processes off the same devices."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from fleetops.errors import HostError, RunBusyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RUN_ID: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4,12}")
_COUNTER_BYTES: Final = 8
_BUSY_PATIENCE_S: Final = 0.5
"""Whoever only looks whether a run is live holds its lock for a moment; a second try tells them apart."""


def default_state_dir(env: Mapping[str, str]) -> Path:
    """`FLEETOPS_STATE_DIR`, else fleetops' place under the user's state directory (XDG base directories)."""
    if named := env.get("FLEETOPS_STATE_DIR"):
        return Path(named)
    base = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".local" / "state"
    return Path(base) / "fleetops"


def _cannot_open(path: Path, error: OSError) -> HostError:
    return HostError(
        f"cannot open {path}: {error.strerror}", hint="make it writable, or name another place in FLEETOPS_STATE_DIR"
    )


def same_file(path: Path, known: os.stat_result) -> bool:
    """Whether the file that is called `path` now is one that was looked at before."""
    try:
        return os.path.samestat(path.stat(), known)
    except OSError:
        return False


class RunLock:
    """Held by the one process that drives a run, for as long as it lives.

    The lock file also counts the journal's commits, so that a journal that lost its newest ones is noticed.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def acquire(cls, path: Path, run_id: str) -> Self:
        """Take the lock.

        Raises:
            RunBusyError: Another live process holds it.
            HostError: The lock file cannot be opened.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _cannot_open(path, error) from None
        deadline_s = time.monotonic() + _BUSY_PATIENCE_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline_s:
                    os.close(fd)
                    raise RunBusyError(
                        f"run {run_id} is being driven by another process",
                        hint=f"watch it with `fleetops status {run_id} --watch`",
                    ) from None
                time.sleep(0.02)
            else:
                return cls(fd, path)

    def in_place(self) -> bool:
        """Whether the lock file is still the one that others find."""
        return same_file(self.path, os.fstat(self._fd))

    def count_commit(self, commits: int) -> None:
        """Note that the journal has this many commits; not durable by itself, and need not be."""
        os.pwrite(self._fd, commits.to_bytes(_COUNTER_BYTES, "big"), 0)

    def counted_commits(self) -> int:
        """The number last noted; 0 where none was."""
        return int.from_bytes(os.pread(self._fd, _COUNTER_BYTES, 0), "big")

    def release(self) -> None:
        """Let go of the run."""
        os.close(self._fd)


class StateDir:
    """The directory that holds every run's journal on this host, for one user.

    Raises:
        HostError: It cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"

    def prepare(self) -> None:
        """Make the directory, readable by its owner only.

        Raises:
            HostError: It cannot be made.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.runs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot make the state directory {self.runs}: {error.strerror}",
                hint="name a writable one in FLEETOPS_STATE_DIR",
            ) from None

    def journal_path(self, run_id: str) -> Path:
        """Where the journal of `run_id` lies.

        Raises:
            UsageError: It is not a run id.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise UsageError(
                f"{run_id[:60]!r} is not a run id",
                hint="run ids look like 20260102-030405-6f7a; see `fleetops runs`",
            )
        return self.runs / f"{run_id}.db"

    def lock_path(self, run_id: str) -> Path:
        """Where the lock of `run_id` lies."""
        return self.journal_path(run_id).with_suffix(".lock")

    def run_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        try:
            names = [path.stem for path in self.runs.glob("*.db")]
        except OSError:
            return []
        return sorted((name for name in names if _RUN_ID.fullmatch(name)), reverse=True)

    def lock_run(self, run_id: str) -> RunLock:
        """Take the lock of a run; see `RunLock.acquire`."""
        return RunLock.acquire(self.lock_path(run_id), run_id)

    def is_live(self, run_id: str) -> bool:
        """Whether a process drives the run now."""
        try:
            fd = os.open(self.lock_path(run_id), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """While held, no other process can start or resume a run, so that devices are claimed one run at a time."""
        path = self.root / "claims.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _cannot_open(path, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            with suppress(OSError):
                os.close(fd)
