"""The circuit of one MCP server in this process."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.metrics.mcp import record_mcp_circuit
from app.outbound.circuit import Circuit, CircuitState
from app.tools.mcp.errors import McpError

FAILURES: Final = 3  # calls in a row without an answer; a failed connection opens the circuit at once
OPEN_SECONDS: Final = 30.0

_log = logging.getLogger("parley.mcp")


class ServerCircuit:
    """Lets through one attempt in `OPEN_SECONDS` while the server does not answer.

    Its state is in the metrics if it is that of the turns, `is_recorded`, and not of a single test.
    """

    def __init__(self, name: str, *, is_recorded: bool) -> None:
        self._name, self._is_recorded = name, is_recorded
        self._circuit = Circuit(failures=FAILURES, open_seconds=OPEN_SECONDS, on_change=self._changed)
        if is_recorded:
            record_mcp_circuit(name, "closed")

    @contextmanager
    def guard(self, is_fair: Callable[[], bool]) -> Iterator[None]:
        """Run a request and count its result. Raises `CircuitOpen` if it must not be sent.

        An error that the server itself sent is an answer. A failure counts only if `is_fair`.
        """
        trial = self._circuit.admit()
        try:
            yield
        except McpError as error:
            if error.alive:
                self._succeeded(trial)
            elif error.unreachable or is_fair():
                self._circuit.failed(trial=trial, at_once=error.unreachable)
            else:
                self._cancelled(trial)
            raise
        except BaseException:
            self._cancelled(trial)
            raise
        self._succeeded(trial)

    def _succeeded(self, trial: bool) -> None:
        if trial:
            self._circuit.trial_succeeded()
        else:
            self._circuit.succeeded()

    def _cancelled(self, trial: bool) -> None:
        if trial:
            self._circuit.trial_cancelled()

    def _changed(self, state: CircuitState) -> None:
        if not self._is_recorded:
            return
        record_mcp_circuit(self._name, state)
        _log.log(
            logging.WARNING if state == "open" else logging.INFO,
            "circuit of the MCP server %s: %s", self._name, state,
        )  # fmt: skip
