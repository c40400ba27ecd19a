"""The input of a run: a JSON object whose keys are the agent's parameters."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from weakref import WeakKeyDictionary

import msgspec

from holdfast.codec.annotations import resolve
from holdfast.codec.kinds import (
    EMPTY,
    JSON_KINDS,
    REFUSALS,
    decode_json,
    decode_object,
    encode_json,
    encode_sorted,
    kind_name,
    reader,
)
from holdfast.codec.values import LIMIT_BYTES, difference, encode, parts_of
from holdfast.errors import InvalidInput, NotSerializable, PayloadTooLarge


@dataclasses.dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of an agent: what it is called, what it reads, and its default as JSON if it has one."""

    agent: str
    name: str
    kind: object
    default: bytes | None

    @property
    def what(self) -> str:
        return f"parameter {self.name!r} of agent {self.agent!r}"

    def read(self, data: bytes) -> object:
        try:
            return reader(self.kind).decode(data)
        except REFUSALS as error:
            raise InvalidInput(
                f"{self.what} (declared {_declared(self.kind)}) does not fit: {error}"
            ) from error

    def canonical(self, value: object) -> bytes:
        """The value as sorted JSON, after a round trip: 1 for a declared float is 1.0, defaults of fields are there."""
        decoded = self.read(encode(value, what=self.what))
        if self.kind not in JSON_KINDS:
            _complete(decoded)
        if self.kind in JSON_KINDS and decoded != value:
            raise NotSerializable(
                f"{self.what} does not survive being recorded: {difference(value, decoded)}. "
                f"Annotate the parameter, as in `{self.name}: {type(value).__qualname__}`"
            )
        try:
            return encode_sorted(decoded)
        except TypeError:  # keys that are not text sort as the text they become
            return encode_sorted(decode_json(encode_json(decoded)))


def _complete(value: object) -> None:
    """Write the defaults into decoded dataclasses: msgspec leaves them to the class, and then does not encode them."""
    for _, part in parts_of(value):
        _complete(part)
    if dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
        for field in dataclasses.fields(value):
            vars(value).setdefault(field.name, getattr(value, field.name))


def _declared(kind: object) -> str:
    return "without a type" if kind in JSON_KINDS else kind_name(kind)


_parameters_of: WeakKeyDictionary[object, tuple[_Parameter, ...]] = WeakKeyDictionary()


def _parameters(agent_fn: Callable[..., object]) -> tuple[_Parameter, ...]:
    found = _parameters_of.get(agent_fn)
    if found is None:
        found = _parameters_of[agent_fn] = tuple(_read_parameters(agent_fn))
    return found


def _read_parameters(agent_fn: Callable[..., object]) -> list[_Parameter]:
    name = getattr(agent_fn, "__name__", "agent")
    found: list[_Parameter] = []
    for given in list(inspect.signature(agent_fn).parameters.values())[1:]:
        bare = _Parameter(name, given.name, resolve(agent_fn, given.name), None)
        default = bare.canonical(given.default) if given.default is not EMPTY else None
        found.append(dataclasses.replace(bare, default=default))
    return found


def input_json(agent_fn: Callable[..., object], args: tuple[object, ...]) -> bytes:
    """The input of a run: a JSON object whose keys are the agent's parameters after `ctx`, in sorted order.

    Defaults are filled in, so that equal calls give equal bytes. Raises InvalidInput for too many or too few
    arguments and for wrong types, NotSerializable for what has no JSON form.
    """
    parameters = _parameters(agent_fn)
    if len(args) > len(parameters):
        names = ", ".join(parameter.name for parameter in parameters) or "nothing"
        raise InvalidInput(
            f"agent {getattr(agent_fn, '__name__', 'agent')!r} takes {len(parameters)} arguments after ctx ({names}), "
            f"but {len(args)} were given"
        )
    values = {
        parameter.name: parameter.canonical(arg) for parameter, arg in zip(parameters, args, strict=False)
    }
    values |= {parameter.name: _default(parameter) for parameter in parameters[len(args) :]}
    data = encode_sorted({name: msgspec.Raw(value) for name, value in values.items()})
    if len(data) > LIMIT_BYTES:
        raise PayloadTooLarge(
            f"the input is {len(data) / 2**20:.1f} MiB of JSON, over {LIMIT_BYTES // 2**20} MiB"
        )
    return data


def decode_input(agent_fn: Callable[..., object], data: bytes) -> tuple[object, ...]:
    """The positional arguments after `ctx` from a run's input.

    Raises InvalidInput naming the parameter: unknown (with the nearest known one), missing, or of a wrong type.
    """
    parameters = _parameters(agent_fn)
    given = _read_object(data)
    known = [parameter.name for parameter in parameters]
    agent = getattr(agent_fn, "__name__", "agent")
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'no parameters'}"
            raise InvalidInput(f"agent {agent!r} has no parameter {name!r}: {hint}")
    return tuple(
        parameter.read(bytes(given[parameter.name]) if parameter.name in given else _default(parameter))
        for parameter in parameters
    )


def normalise_input(agent_fn: Callable[..., object], raw: bytes) -> bytes:
    """JSON typed by a person as the input that the same call would have: checked, defaults filled in, sorted keys.

    Raises InvalidInput.
    """
    return input_json(agent_fn, decode_input(agent_fn, raw))


def _default(parameter: _Parameter) -> bytes:
    if parameter.default is None:
        raise InvalidInput(f"{parameter.what} is missing and has no default")
    return parameter.default


def _read_object(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        return decode_object(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"the input must be a JSON object whose keys are the agent's parameters: {error}"
        ) from error
    except (*REFUSALS,) as error:
        raise InvalidInput(f"the input is not JSON: {error}") from error
