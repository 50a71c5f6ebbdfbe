"""Two ranks on one machine."""

from __future__ import annotations

import socket


def free_port() -> str:
    """Number of a port for the ranks to meet at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def forget_accelerate() -> None:
    """Let accelerate take new settings: it keeps its first ones for the process, forks included."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()
