"""The codec: values ↔ journal bytes, JSON into declared types, with limits.

Laws:
1. Data never names code: bytes are read only into the type that the code at hand declares.
2. What is handed out is always what was recorded, decoded: the first time as on every replay.
3. What would not survive is refused when it is recorded, never when it is read.

JSON has no NaN and no infinity, and msgspec writes `null` for them; they are searched for only where a `null` stands.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import difflib
import functools
import hashlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import msgspec

from holdfast.errors import InvalidInput, NotSerializable, PayloadTooLarge, UsageError

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""One payload's hard limit: a row beyond it would stall every run that shares the transaction."""

_EMPTY: Final = inspect.Signature.empty
_JSON_KINDS: Final = (_EMPTY, Any, object, None, types.NoneType)
_REFUSALS: Final = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    msgspec.MsgspecError,
)
"""What encoding, decoding and comparing raise for values they cannot handle; translated here, once."""

_T = TypeVar("_T")


class _Reader(Protocol):
    def decode(self, data: bytes, /) -> object: ...


# --- hooks: the types that msgspec leaves to us ---------------------------------------------------------------


class _Unsupported(TypeError):
    """A value that has no JSON form."""


def _pydantic() -> Any:  # noqa: ANN401 - a module that is never imported by us has no type here
    """pydantic, if the user's code imported it."""
    return sys.modules.get("pydantic")


def _is_model(kind: object) -> bool:
    pydantic = _pydantic()
    base = getattr(pydantic, "BaseModel", None)
    return base is not None and isinstance(kind, type) and issubclass(kind, base)


@functools.cache
def _names_apply() -> bool:
    """Whether this pydantic can validate by field name whatever the aliases are (2.11 on)."""
    return tuple(int(part) for part in _pydantic().VERSION.split(".")[:2]) >= (2, 11)


def _dump_model(model: Any) -> object:  # noqa: ANN401 - an instance of the user's pydantic
    dumped = model.model_dump(mode="json", round_trip=True, by_alias=not _names_apply())
    if _holds_secret(model):
        raise _Unsupported(
            "it holds a secret, which pydantic writes as asterisks: keep secrets out of what is recorded"
        )
    return cast("object", dumped)


def _holds_secret(model: object) -> bool:
    secrets = (_pydantic().SecretStr, _pydantic().SecretBytes)
    return any(isinstance(part, secrets) and part.get_secret_value() for part in vars(model).values())


def _load_model(kind: Any, plain: object) -> object:  # noqa: ANN401 - a class of the user's pydantic
    data = msgspec.json.encode(
        plain
    )  # from JSON, not from Python values: strict models read dates and tuples so
    if _names_apply():
        return cast("object", kind.model_validate_json(data, by_name=True, by_alias=False))
    return cast("object", kind.model_validate_json(data))


def _enc_hook(value: object) -> object:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if _is_model(type(value)):
        return _dump_model(value)
    raise _Unsupported(f"a {_type_name(value)} has no JSON form")


def _dec_hook(kind: Any, plain: object) -> object:  # noqa: ANN401 - msgspec's signature
    if kind is object:
        return plain
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if issubclass(origin, PurePath):
            return origin(_expect(plain, str))
        if _is_model(kind):
            return _load_model(kind, plain)
        if issubclass(origin, collections.Counter | collections.OrderedDict):
            return origin(_expect(plain, dict))
    raise NotImplementedError(f"{_kind_name(kind)} cannot be read from JSON")


def _expect(plain: object, kind: type[_T]) -> _T:
    if not isinstance(plain, kind):
        raise ValueError(f"expected {kind.__name__}, got {_type_name(plain)}")
    return plain


_encode_json: Final = msgspec.json.Encoder(enc_hook=_enc_hook).encode
_encode_sorted: Final = msgspec.json.Encoder(enc_hook=_enc_hook, order="sorted").encode
_decode_json: Final = msgspec.json.Decoder().decode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _UnionReader:
    """Reads unions with pydantic models in them, which msgspec cannot tell apart, by pydantic's own rules."""

    def __init__(self, kind: object) -> None:
        self._adapter = _pydantic().TypeAdapter(kind)

    def decode(self, data: bytes, /) -> object:
        if _names_apply():
            return cast("object", self._adapter.validate_json(data, by_name=True, by_alias=False))
        return cast("object", self._adapter.validate_json(data))


def _mentions_model(kind: object) -> bool:
    return _is_model(kind) or any(_mentions_model(part) for part in typing.get_args(kind))


def _reader(kind: object) -> _Reader:
    """The decoder of a kind. Raises UsageError when JSON cannot be read into it."""
    try:
        return _cached_reader(kind)
    except TypeError as error:
        if "unhashable" in str(error):
            return _new_reader(kind)
        raise


@functools.lru_cache(maxsize=1024)
def _cached_reader(kind: object) -> _Reader:
    return _new_reader(kind)


def _new_reader(kind: object) -> _Reader:
    if kind in _JSON_KINDS:
        return msgspec.json.Decoder()
    try:
        return msgspec.json.Decoder(cast("type[object]", kind), dec_hook=_dec_hook)
    except (*_REFUSALS, NameError) as error:
        if isinstance(error, TypeError) and _mentions_model(kind):
            return _UnionReader(kind)
        raise UsageError(
            f"the type {_kind_name(kind)} cannot be read from JSON: {error}. "
            "Declare one type that says what to build: a dataclass, or a union of tagged msgspec Structs"
        ) from error


# --- encode and decode ----------------------------------------------------------------------------------------


def encode(value: object, *, what: str) -> bytes:
    """Return `value` as JSON. `what` names it in errors, as in "the state of run r1".

    Raises NotSerializable for a value without JSON form (NaN and infinity too), PayloadTooLarge over LIMIT_BYTES.
    """
    try:
        data = _encode_json(value)
    except _REFUSALS as error:
        _refuse_encoding(value, what, error)
    if len(data) > LIMIT_BYTES:
        raise PayloadTooLarge(
            f"{what} is {len(data) / 2**20:.1f} MiB of JSON, over the limit of {LIMIT_BYTES // 2**20} MiB: "
            "write it to a file and record the path"
        )
    if b"null" in data:
        _refuse_nan(value, what)
    return data


def decode(data: bytes, kind: object, *, what: str) -> object:
    """Read JSON into `kind`; no kind (`inspect.Signature.empty`, `Any`, `None`) means JSON types.

    Raises NotSerializable when the bytes do not fit, UsageError when nothing can be read into such a kind.
    """
    try:
        return _reader(kind).decode(data)
    except _REFUSALS as error:
        raise NotSerializable(
            f"{what} does not fit {_kind_name(kind)}: {error}. Make the type read what is recorded (defaults for new "
            "fields, a union for changed ones)"
        ) from error


def _refuse_encoding(value: object, what: str, error: Exception) -> NoReturn:
    if isinstance(error, RecursionError):
        reason, fix = "it is nested too deeply, or contains itself", "Record a flat form of it"
    elif isinstance(error, UnicodeEncodeError):
        reason = "its text holds half a character (a lone surrogate), which UTF-8 cannot carry"
        fix = "Clean the text first: text.encode('utf-8', 'replace').decode()"
    else:
        reason = str(error)
        fix = (
            "Use plain JSON types, a dataclass, a msgspec Struct, a pydantic or attrs class, and keep open files, "
            "clients, callables and locks out"
        )
    where = _path_to_refused(value)
    raise NotSerializable(
        f"{what} (a {_type_name(value)}) cannot be recorded: {reason}{where}. {fix}"
    ) from error


def _refuse_nan(value: object, what: str) -> None:
    if _holds_nan(value):
        raise NotSerializable(
            f"{what} (a {_type_name(value)}) cannot be recorded: it holds NaN or an infinity, which JSON lacks. "
            "Replace it by None, or by a string of your own"
        )


# A float64 in MessagePack is 0xcb and eight bytes; NaN and infinities have an exponent of ones. Text cannot hold
# these bytes; integers and binaries can, so that a hit is looked at again.
_NAN_BYTES: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_pack: Final = msgspec.msgpack.Encoder(enc_hook=_enc_hook).encode


def _holds_nan(value: object) -> bool:
    try:
        if not _NAN_BYTES.search(_pack(value)):
            return False
    except _REFUSALS:
        pass  # integers beyond 64 bits: look at every part
    todo: list[object] = [msgspec.to_builtins(value, enc_hook=_enc_hook)]
    while todo:
        part = todo.pop()
        if isinstance(part, float):
            if part - part != 0:
                return True
        elif isinstance(part, dict):
            todo.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            todo.extend(part)
    return False


# --- words for errors -----------------------------------------------------------------------------------------


def _type_name(value: object) -> str:
    return _kind_name(type(value))


def _kind_name(kind: object) -> str:
    if not isinstance(kind, type) or typing.get_args(kind):
        return str(kind).replace("typing.", "")
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _parts(value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{n}]", part) for n, part in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return []


def _path_to_refused(value: object) -> str:
    """Where in `value` the part stands that cannot be encoded, as " (at [3].client)"; empty for the whole."""
    path = ""
    for _ in range(50):  # deeper paths are no help to anybody
        for step, part in _parts(value):
            try:
                _encode_json(part)
            except _REFUSALS:
                path, value = path + step, part
                break
        else:
            break
    return f" (at {path[:200]})" if path else ""


def _difference(value: object, decoded: object) -> str:
    """The first place where what was read differs from what was written, in words."""
    path = ""
    while type(value) is type(decoded):
        ours, theirs = _parts(value), dict(_parts(decoded))
        step, part = next(((s, p) for s, p in ours if s not in theirs or theirs[s] != p), ("", None))
        if not step:
            return f"{repr(value)[:80]} comes back as {repr(decoded)[:80]}{f' (at {path[:200]})' if path else ''}"
        if step not in theirs:
            return f"the key {step} comes back as text{f' (at {path[:200]})' if path else ''}"
        path, value, decoded = path + step, part, theirs[step]
    where = f" (at {path[:200]})" if path else ""
    return f"a {_type_name(value)} comes back as a {_type_name(decoded)}{where}"


# --- the shape of a step --------------------------------------------------------------------------------------


class Shape:
    """How the results of one function are recorded: its return type, with encoder and decoder at hand.

    Build it with `Shape.of`; it is cheap to keep and may be used from any thread.
    """

    __slots__ = ("_class", "_compared", "_decode", "kind", "what")

    def __init__(self, what: str, kind: object) -> None:
        self.what = what
        self.kind = kind
        self._decode: Callable[[bytes], object] = _reader(kind).decode
        self._compared = kind in _JSON_KINDS or _is_loose(kind)
        self._class = kind if _is_record_class(kind) else None

    @classmethod
    def of(cls, fn: Callable[..., object], what: str) -> Shape:
        """The shape of what `fn` returns. `what` names the step in errors, as in "the result of step 'fetch'".

        Raises UsageError when the return annotation cannot be resolved, or JSON cannot be read into it.
        """
        target = _target(fn)
        try:
            found = _shapes.get(target)
        except TypeError:  # no weak reference to it
            return cls(what, return_kind(target))
        if found is None:
            found = _shapes[target] = cls(what, return_kind(target))
        return found if found.what == what else cls(what, found.kind)

    def recode(self, value: object) -> tuple[bytes, object]:
        """Return the bytes to record and what they decode to: the value that the caller gets.

        Raises NotSerializable when the value does not survive, naming the step, the type and the fix;
        PayloadTooLarge over LIMIT_BYTES.
        """
        try:
            data = _encode_json(value)
        except _REFUSALS as error:
            _refuse_encoding(value, self.what, error)
        if len(data) > LIMIT_BYTES or (
            b"null" in data and not self._compared
        ):  # comparing finds NaN by itself
            encode(value, what=self.what)
        try:
            decoded = self._decode(data)
            if self._compared:
                if decoded != value:
                    self._refuse_change(value, decoded)
            elif self._class is not None and type(decoded) is not type(value):
                self._refuse_class(value)
        except _REFUSALS as error:
            raise NotSerializable(
                f"{self.what} (a {_type_name(value)}) does not fit its declared type {_kind_name(self.kind)}: {error}. "
                "Return what the annotation says, or correct the annotation"
            ) from error
        return data, decoded

    def decode(self, data: bytes) -> object:
        """Read a recorded result. Raises NotSerializable when the declared type no longer fits it."""
        try:
            return self._decode(data)
        except _REFUSALS:
            return decode(data, self.kind, what=self.what)

    def _refuse_change(self, value: object, decoded: object) -> NoReturn:
        _refuse_nan(value, self.what)
        how = "annotate" if self.kind in _JSON_KINDS else "annotate more precisely"
        example = (
            f"-> {type(value).__qualname__}"
            if type(value) not in (list, dict)
            else "-> list[...] or dict[...]"
        )
        raise NotSerializable(
            f"{self.what} (a {_type_name(value)}) does not survive being recorded: {_difference(value, decoded)}. "
            f"To fix it, {how} the function's return type ({example}), or return plain JSON types"
        )

    def _refuse_class(self, value: object) -> NoReturn:
        raise NotSerializable(
            f"{self.what} is a {_type_name(value)}, but the function declares {_kind_name(self.kind)}, which is what "
            "would be read back. Annotate the function with the class it returns (several: a union of tagged Structs)"
        )


_shapes: WeakKeyDictionary[object, Shape] = WeakKeyDictionary()


def _is_record_class(kind: object) -> bool:
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, msgspec.Struct)
        or hasattr(kind, "__attrs_attrs__")
        or _is_model(kind)
    )


_PLAIN: Final = frozenset({bool, int, float, str, types.NoneType, type(None)})
_LOOSE: Final = frozenset({dict, list})


def _is_loose(kind: object) -> bool:
    """Whether the kind is made of JSON types and leaves parts open (`dict[str, Any]`): then equality must decide."""
    leaves = _leaves(kind)
    return any(leaf is Any or leaf is object or leaf in _LOOSE for leaf in leaves) and all(
        leaf is Any or leaf is object or leaf in _LOOSE or leaf in _PLAIN for leaf in leaves
    )


def _leaves(kind: object) -> list[object]:
    origin = typing.get_origin(kind)
    if origin in (list, dict, typing.Union, types.UnionType):
        return [leaf for part in typing.get_args(kind) for leaf in _leaves(part)]
    return [kind if isinstance(kind, collections.abc.Hashable) else origin]


# --- annotations ----------------------------------------------------------------------------------------------


def _target(fn: Callable[..., object]) -> Any:  # noqa: ANN401 - function, class, builtin or callable object
    """The function behind partials, methods and callable objects."""
    target: Any = fn
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    if isinstance(target, type) or hasattr(target, "__code__"):
        return target
    call = type(target).__call__
    return call if hasattr(call, "__code__") else target


def return_kind(fn: Callable[..., object]) -> object:
    """The declared type of what `fn` gives, awaited: `inspect.Signature.empty` without an annotation.

    Raises UsageError when the annotation cannot be resolved.
    """
    target = _target(fn)
    if isinstance(target, type):
        return target
    kind = resolve(target, "return")
    if typing.get_origin(kind) in (collections.abc.Awaitable, collections.abc.Coroutine):
        return typing.get_args(kind)[-1]
    return kind


def resolve(fn: Callable[..., object], name: str) -> object:
    """The annotation of one parameter (or "return") as a type; the others need not be resolvable.

    Raises UsageError naming the annotation.
    """
    owner: Any = fn
    while hasattr(owner, "__wrapped__"):
        owner = owner.__wrapped__
    try:
        annotations: dict[str, object] = getattr(fn, "__annotations__", None) or {}
        if name not in annotations:
            return _EMPTY
        probe = lambda: None  # carries the one annotation
        probe.__annotations__ = {name: annotations[name]}
        local = {parameter.__name__: parameter for parameter in getattr(owner, "__type_params__", ())}
        return typing.get_type_hints(probe, getattr(owner, "__globals__", {}), local, include_extras=True)[
            name
        ]
    except (*_REFUSALS, NameError, SyntaxError) as error:
        which = "return annotation" if name == "return" else f"annotation of parameter {name!r}"
        raise UsageError(
            f"the {which} of {getattr(fn, '__qualname__', fn)}{_written(fn, name)} cannot be resolved: {error}. Define "
            "or import the type at the top of the module, outside `if TYPE_CHECKING:` and outside functions"
        ) from error


def _written(fn: Callable[..., object], name: str) -> str:
    """The annotation as text, where it is text; 3.14 cannot show one whose names are missing."""
    try:
        return f" ({fn.__annotations__[name]!r})"
    except (NameError, KeyError):
        return ""


# --- fingerprints ---------------------------------------------------------------------------------------------


def _print_hook(value: object) -> object:
    try:
        return _enc_hook(value)
    except _REFUSALS:
        return {"type": _type_name(value)}


_encode_print: Final = msgspec.json.Encoder(enc_hook=_print_hook, order="deterministic").encode


def fingerprint(args: tuple[object, ...], version: str | None) -> bytes:
    """16 bytes that are equal for equal arguments, in every process. Never raises.

    What has no canonical form (clients, callables, open files, locks) counts by the name of its type.
    """
    try:
        data = _encode_print((version, args))
    except _REFUSALS:
        data = _encode_print((version, [_canonical(arg) for arg in args]))
    return hashlib.blake2b(data, digest_size=16).digest()


def _canonical(value: object) -> object:
    try:
        return _canonical_part(value)
    except (*_REFUSALS, RuntimeError):  # too deep; or changed by a thread meanwhile
        return {"type": _type_name(value)}


def _canonical_part(value: object) -> object:
    if isinstance(value, dict):
        pairs = [(_encode_print(_canonical_part(key)), _canonical_part(part)) for key, part in value.items()]
        return {"dict": [(key.decode(), part) for key, part in sorted(pairs, key=lambda pair: pair[0])]}
    if isinstance(value, set | frozenset):
        return sorted(_encode_print(_canonical_part(part)).decode() for part in value)
    if isinstance(value, list | tuple):
        return [_canonical_part(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("latin-1")
    try:
        return msgspec.Raw(_encode_print(value))
    except _REFUSALS:
        return {"type": _type_name(value)}


# --- inputs ---------------------------------------------------------------------------------------------------


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
            return _reader(self.kind).decode(data)
        except _REFUSALS as error:
            raise InvalidInput(
                f"{self.what} (declared {_declared(self.kind)}) does not fit: {error}"
            ) from error

    def canonical(self, value: object) -> bytes:
        """The value as sorted JSON, after a round trip: 1 for a declared float is 1.0, defaults of fields are there."""
        decoded = self.read(encode(value, what=self.what))
        if self.kind in _JSON_KINDS and decoded != value:
            raise NotSerializable(
                f"{self.what} does not survive being recorded: {_difference(value, decoded)}. "
                f"Annotate the parameter, as in `{self.name}: {type(value).__qualname__}`"
            )
        try:
            return _encode_sorted(decoded)
        except TypeError:  # keys that are not text sort as the text they become
            return _encode_sorted(_decode_json(_encode_json(decoded)))


def _declared(kind: object) -> str:
    return "without a type" if kind in _JSON_KINDS else _kind_name(kind)


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
        default = bare.canonical(given.default) if given.default is not _EMPTY else None
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
    data = _encode_sorted({name: msgspec.Raw(value) for name, value in values.items()})
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
        return _decode_object(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"the input must be a JSON object whose keys are the agent's parameters: {error}"
        ) from error
    except (*_REFUSALS,) as error:
        raise InvalidInput(f"the input is not JSON: {error}") from error
