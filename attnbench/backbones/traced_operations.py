"""The operations of a network, traced by `torch.fx`, and modules that run some of them."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg


@dataclass(frozen=True)
class _Value:
    """A placeholder in arguments for an earlier result; 0 is the input."""

    number: int


@dataclass(frozen=True)
class _Attribute:
    """A placeholder in arguments for a parameter or buffer of the network."""

    name: str


@dataclass(frozen=True)
class Operation:
    """One operation of a trace.

    Attributes:
        kind: `call_module`, `call_function` or `call_method`.
        target: the name of a module of the network, of a function (`torch:flatten`) or of a method.
        args: positional arguments, with placeholders for values and attributes.
        kwargs: keyword arguments, likewise.
    """

    kind: str
    target: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Operations(nn.Module):
    """Runs traced operations in order. Functions are held by name, so that it can be pickled.

    Args:
        operations: what to run.
        owner: the network that has the modules, parameters and buffers they use.
    """

    def __init__(self, operations: Sequence[Operation], owner: nn.Module) -> None:
        super().__init__()
        self._operations = tuple(operations)
        for operation in self._operations:
            if operation.kind == "call_module":
                module = owner.get_submodule(operation.target)
                self.add_module(attribute_name(operation.target), module)
            map_aggregate((operation.args, operation.kwargs), lambda a: self._adopt(a, owner))

    def _adopt(self, argument: Any, owner: nn.Module) -> Any:
        if isinstance(argument, _Attribute):
            place, _, name = argument.name.rpartition(".")
            tensor = getattr(owner.get_submodule(place), name)
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(attribute_name(argument.name), tensor)
            else:
                self.register_buffer(attribute_name(argument.name), tensor)
        return argument

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.results(images)[-1])

    def results(self, images: Tensor) -> list[Any]:
        """Return the input and the result of each operation."""
        values: list[Any] = [images]

        def resolve(argument: Any) -> Any:
            if isinstance(argument, _Value):
                return values[argument.number]
            if isinstance(argument, _Attribute):
                return getattr(self, attribute_name(argument.name))
            return argument

        for operation in self._operations:
            args, kwargs = map_aggregate((operation.args, operation.kwargs), resolve)
            if operation.kind == "call_module":
                # Looked up by name each time: a method may have put a layer behind the module.
                values.append(getattr(self, attribute_name(operation.target))(*args, **kwargs))
            elif operation.kind == "call_method":
                values.append(getattr(args[0], operation.target)(*args[1:], **kwargs))
            else:
                values.append(_function_called(operation.target)(*args, **kwargs))
        return values


def attribute_name(name: str) -> str:
    """Return a qualified name as the name of an attribute."""
    return name.replace(".", "_")


@cache
def _function_called(name: str) -> Callable[..., Any]:
    return cast(Callable[..., Any], pkgutil.resolve_name(name))


def _function_name(function: Any) -> str:
    """The name by which `pkgutil.resolve_name` finds a function. Raises ValueError if it has none."""
    # PyTorch's functions do not all know their module, and some are closures (`F.max_pool2d`).
    for name in (
        f"{function.__module__}:{function.__qualname__}",
        f"torch:{function.__name__}",
        f"torch.nn.functional:{function.__name__}",
    ):
        try:
            if pkgutil.resolve_name(name) is function:
                return name
        except (AttributeError, ImportError, ValueError):
            continue
    raise ValueError(f"the function {function.__name__} has no name to find it by")


class _Tracer(fx.Tracer):
    def __init__(
        self, opens: Callable[[str, nn.Module], bool], closed: Sequence[Callable[..., Any]]
    ) -> None:
        super().__init__(autowrap_functions=tuple(closed))
        self._opens = opens

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not self._opens(name, module)


class Trace:
    """The operations of a network in order, and where it can be cut.

    Args:
        model: the network, in eval mode.
        images: `[n, 3, H, W]`, on which the operations are run once.
        opens: whether a module's own operations are traced, given its name and the module.
        closed: functions whose own operations are not traced, such as those that branch on shapes.

    Attributes:
        modules: for each operation, the name of the module it calls, or an empty text.
        cuts: the positions before which the network can be cut, ascending. Only the last result is
            needed from there on, a tensor with a row for each image. So none of them is inside a
            skip connection.
        values: the images, and the result of each operation.

    Raises:
        Exception: whatever tracing the network raises, for example if it branches on its input.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        opens: Callable[[str, nn.Module], bool],
        closed: Sequence[Callable[..., Any]] = (),
    ) -> None:
        # Other parameters of the forward function keep their defaults.
        parameters = inspect.signature(model.forward).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        graph = _Tracer(opens, closed).trace(model, concrete_args=defaults or None)
        used = _used_nodes(graph)
        self._owner = model
        self._nodes = [node for node in graph.nodes if node.op.startswith("call_") and node in used]
        self._input = next(node for node in graph.nodes if node.op == "placeholder")
        self.modules = [
            str(node.target) if node.op == "call_module" else "" for node in self._nodes
        ]
        with torch.no_grad():
            self.values = Operations(self._operations(0, len(self._nodes)), model).results(images)
        self.cuts = [
            position
            for position in self._single_results()
            if isinstance(value := self.values[position], Tensor)
            and value.dim() > 1
            and len(value) == len(images)
        ]

    def _single_results(self) -> list[int]:
        """The positions from which only the last result is needed."""
        positions = {node: position for position, node in enumerate(self._nodes)}
        positions[self._input] = -1
        last_use = {
            node: max((positions[user] for user in node.users if user in positions), default=-1)
            for node in positions
        }
        return [
            end + 1
            for end in range(len(self._nodes) - 1)
            if [node for node, position in positions.items() if position <= end < last_use[node]]
            == [self._nodes[end]]
        ]

    def stage(self, start: int, end: int) -> nn.Module:
        """The operations from `start` up to `end`, between two cuts, as one module.

        It is the network's own module, or a sequence of these, where nothing else is called.
        """
        operations = self._operations(start, end)
        if any(
            operation.kind != "call_module" or operation.args != (_Value(i),) or operation.kwargs
            for i, operation in enumerate(operations)
        ):
            return Operations(operations, self._owner)
        modules = [self._owner.get_submodule(operation.target) for operation in operations]
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    def _operations(self, start: int, end: int) -> list[Operation]:
        numbers = {node: i for i, node in enumerate(self._nodes[start:end], start=1)}
        numbers[self._nodes[start - 1] if start else self._input] = 0

        def placeholder(node: fx.Node) -> Any:
            return _Attribute(str(node.target)) if node.op == "get_attr" else _Value(numbers[node])

        return [
            Operation(
                node.op,
                _function_name(node.target) if node.op == "call_function" else str(node.target),
                map_arg(node.args, placeholder),
                map_arg(node.kwargs, placeholder),
            )
            for node in self._nodes[start:end]
        ]


def _used_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on."""
    pending = [node for node in graph.nodes if node.op == "output"]
    used: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node not in used:
            used.add(node)
            pending += node.all_input_nodes
    return used
