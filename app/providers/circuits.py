"""The circuits of one provider: one for its default model, and one for each other model.

Callers may name any model. So a model that fails opens its own circuit only, and the number of circuits is bounded.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from app.metrics.chat import record_circuit
from app.metrics.registry import OTHER
from app.outbound.circuit import Circuit, CircuitState
from app.text import shortened

MAX_MODELS = 100  # circuits of other models per provider; above it, the one that was used longest ago is dropped

_OnChange = Callable[[CircuitState], None]

_SEVERITY: dict[CircuitState, int] = {"closed": 0, "half_open": 1, "open": 2}

_log = logging.getLogger("parley.providers")


class ProviderCircuits:
    """The circuits of the provider `name` in this process, made by `make`, which gets `on_change`. Thread-safe.

    The metric has the state of the default model's circuit, and as the model `OTHER` the worst state of all others.
    """

    def __init__(self, name: str, default_model: str, make: Callable[[_OnChange], Circuit]) -> None:
        self._name, self._default_model, self._make = name, default_model, make
        self._default = make(self._default_changed)
        self._others: OrderedDict[str, Circuit] = OrderedDict()  # by model, the one used last at the end
        self._lock = threading.Lock()
        record_circuit(name, default_model, "closed")
        record_circuit(name, OTHER, "closed")

    def of(self, model: str | None) -> Circuit:
        """Return the circuit of `model`; None is the default model."""
        if model is None or model == self._default_model:
            return self._default
        with self._lock:
            circuit = self._others.get(model)
            if circuit is not None:
                self._others.move_to_end(model)
                return circuit
            circuit = self._others[model] = self._make(partial(self._other_changed, model))
            dropped = self._others.popitem(last=False)[1] if len(self._others) > MAX_MODELS else None
        if dropped is not None and not dropped.closed:
            self._record_others()
        return circuit

    def _default_changed(self, state: CircuitState) -> None:
        record_circuit(self._name, self._default_model, state)
        self._log_change(state, self._name)

    def _other_changed(self, model: str, state: CircuitState) -> None:
        self._record_others()
        self._log_change(state, f"{self._name} for the model {shortened(model, 100)}")

    def _record_others(self) -> None:
        with self._lock:
            states = [circuit.state for circuit in self._others.values()]
        record_circuit(self._name, OTHER, max(states, key=_SEVERITY.__getitem__, default="closed"))

    def _log_change(self, state: CircuitState, subject: str) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        _log.log(level, "circuit of %s: %s", subject, state, extra={"provider": self._name})
