"""The registry of gates: module of each name that ``--gate`` takes, imported when needed."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from gsmflow.methods.gates.base import GateKind

__all__ = ["GATES", "find_gate", "gate_of"]

GATES: Mapping[str, str] = {
    "boundary": "gsmflow.methods.gates.boundary",
    "likelihood": "gsmflow.methods.gates.likelihood",
    "cosmo": "gsmflow.methods.gates.cosmo",
    "gaussian": "gsmflow.methods.gates.gaussian",
}


def find_gate(name: str) -> GateKind:
    """The gate of this name, one of `GATES`."""
    gate = import_module(GATES[name]).GATE
    assert isinstance(gate, GateKind)
    return gate


def gate_of(config: Any) -> GateKind:
    """The gate of a configuration: the ``GATE`` of the module that defines its class."""
    gate = sys.modules[type(config).__module__].GATE
    assert isinstance(gate, GateKind)
    return gate
