"""What the daemon stands on: its state directory, and what the system lets it have."""

from __future__ import annotations

import fcntl
import os
import resource
from contextlib import suppress

from sipd.config import Config, ConfigError

FILES = 65_536
"""Open files asked for: one per stream."""


def lock_state(config: Config) -> int:
    """Make the state directory ours alone; the descriptor of its lock. Raises ConfigError."""
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(config.state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"The state directory {config.state} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(
            f"Another sipd uses the state directory {config.state}; stop it, or choose another with --state DIR."
        ) from error
    return descriptor


def allow_files() -> None:
    """As many open files as the system lets us have, up to `FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
