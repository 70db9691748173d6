"""What the daemon stands on: its state directory, and what the system lets it have."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path

from sipd.config import Config, ConfigError
from sipd.net.limits import CONNECTION_LIMIT

log = logging.getLogger("sipd.grounds")

FILES = 65_536
"""Open files asked for: one per stream."""
RESERVED_FILES = 512
"""Open files that streams leave to all else: state, control channel, name service. Of few files they leave half."""


def lock_state(config: Config) -> int | None:
    """Make the state directory ours alone; the descriptor of its lock.

    None when there is no directory, and none can be made: then all is in memory, and the log says so. Raises
    ConfigError when another sipd has it, and when it is no directory.
    """
    descriptor = _open_lock(config)
    if descriptor is None:
        return None
    _close_to_others(config.state)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"Another sipd uses the state directory {config.state}; stop it, or choose another with --state DIR."
        ) from error
    except OSError as error:  # a file system without locks
        log.error("state directory cannot be locked path=%s error=%r", config.state, error.strerror)
    return descriptor


def _close_to_others(state: Path) -> None:
    """What is in it is for our user alone: secrets of the table are sealed, names and calls are not."""
    try:
        if stat.S_IMODE(state.stat().st_mode) & 0o077:
            state.chmod(0o700)
            log.warning("state directory was open to others, and is closed now path=%s", state)
    except OSError as error:
        log.error("state directory cannot be closed to others path=%s error=%r", state, error.strerror)


def _open_lock(config: Config) -> int | None:
    """The lock file, or the directory itself where none can be made."""
    state, why = config.state, ""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"The state directory {state} cannot be used: {error.strerror}.") from error
    except OSError as error:
        why = str(error)
    for path, flags in ((state / "lock", os.O_RDWR | os.O_CREAT), (state / "lock", os.O_RDONLY), (state, os.O_RDONLY)):
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            why = why or str(error)
        else:
            if why:
                log.error("state directory cannot be written, going on path=%s error=%r", state, why)
            return descriptor
    log.error("there is no state directory, going on from memory path=%s error=%r", state, why)
    return None


def allow_files() -> int:
    """As many open files as the system lets us have, up to `FILES`; how many streams there may be with that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTION_LIMIT
    return max(1, min(CONNECTION_LIMIT, soft - min(RESERVED_FILES, soft // 2)))
