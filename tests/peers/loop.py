"""Tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

Given = ParamSpec("Given")
LIMIT = 60.0
"""Seconds that one test may take."""


def in_loop(test: Callable[Given, Awaitable[None]]) -> Callable[Given, None]:
    """Run the test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run
