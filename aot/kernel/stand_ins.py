"""Stand-ins for packages that are not here: a file of kernels imports torch for its Python half,
which no compiler runs. A stand-in has every name, can be called, subclassed and compared, is false
and has no number: what would need one fails and says so.
"""

import abc
import functools
import inspect
from collections.abc import Iterator
from typing import Any

NEWEST = "999.0.0"  # a version: newer than any that a file asks for

ABSENT = object()  # as an answer: there is no such name


class StandIn:
    """`name` is where it comes from: "torch.nn.functional"."""

    def __init__(self, name: str, answers: dict[str, Any]) -> None:
        self._name = name
        self._answers = answers
        self._base: type | None = None

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute.endswith("__"):
            short = self._name.rpartition(".")[2]
            known = {"__name__": short, "__qualname__": short, "__file__": f"<{self._name}>"}
            known["__version__"] = NEWEST
            if attribute in known:
                return known[attribute]
            raise AttributeError(attribute)
        name = f"{self._name}.{attribute}"
        if name in self._answers:
            value = self._answers[name]
        elif f"*.{attribute}" in self._answers:
            value = self._answers[f"*.{attribute}"]
        else:
            value = StandIn(name, self._answers)
        if value is ABSENT:
            raise AttributeError(f"{self._name} has no {attribute}")
        setattr(self, attribute, value)  # the same each time: as keys of a dict they must be
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and (callable(args[0]) and not isinstance(args[0], StandIn)):
            return _decorated(args[0], self)
        return StandIn(f"{self._name}()", self._answers)

    def __mro_entries__(self, bases: tuple) -> tuple[type, ...]:
        if self._base is None:
            short = self._name.rpartition(".")[2]
            members = {"_stand_in": self, "__init__": _take_all, "__getattr__": _of_base}
            members["__init_subclass__"] = classmethod(lambda cls, **kwargs: None)
            is_error = short.endswith(("Error", "Exception", "Warning"))
            self._base = _StandInMeta(short, (Exception,) if is_error else (), members)
        return (self._base,)

    def __repr__(self) -> str:
        return f"<{self._name}, of a package that is not here>"

    def __getitem__(self, key: Any) -> "StandIn":
        return StandIn(f"{self._name}[]", self._answers)

    def __iter__(self) -> Iterator:
        return iter(())

    def __enter__(self) -> "StandIn":
        return self

    def __deepcopy__(self, memo: dict) -> "StandIn":
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {self!r}")

    def __bool__(self) -> bool:
        _asked.append(self._name)
        return False

    def _compared(self, other: Any) -> bool:
        _asked.append(self._name)
        return False

    def _computed(self, *others: Any) -> "StandIn":
        return StandIn(f"({self._name})", self._answers)

    def _ignored(self, *args: Any) -> None:
        return None

    def _number(self) -> Any:
        raise TypeError(f"{self!r} has no number")

    def _no(self, other: Any) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _compared
    __contains__ = __instancecheck__ = __subclasscheck__ = _no
    __setitem__ = __delitem__ = __exit__ = _ignored
    __int__ = __index__ = __float__ = _number
    __neg__ = __pos__ = __invert__ = __abs__ = __round__ = _computed

    def __len__(self) -> int:
        return 0


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
              "xor", "lshift", "rshift"):  # fmt: skip
    for _side in ("", "r"):
        setattr(StandIn, f"__{_side}{_name}__", StandIn._computed)


def _take_all(instance: Any, *args: Any, **kwargs: Any) -> None:
    vars(instance).update(kwargs)


def _of_base(instance: Any, attribute: str) -> Any:
    return getattr(type(instance)._stand_in, attribute)


class _StandInMeta(abc.ABCMeta):
    """Of a class that derives from a stand-in: it has the names of that too (torch's `apply`)."""

    def __getattr__(cls, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(cls._stand_in, attribute)


# Stand-ins whose truth was taken: a kernel that does has chosen a branch by it.
_asked: list[str] = []


def take_asked() -> list[str]:
    """Those since the last call, each once."""
    names = list(dict.fromkeys(_asked))
    _asked.clear()
    return names


class Decorated:
    """A function beneath a decorator of a missing package: the function, with the names that the
    decorator would have given it (`@op.register_fake`)."""

    def __init__(self, function: Any, decorator: StandIn) -> None:
        functools.update_wrapper(self, function)
        self.fn = function  # where Triton looks beneath a wrapper
        self._decorator = decorator

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "fn":  # not there yet
            raise AttributeError(attribute)
        if hasattr(self.fn, attribute):
            return getattr(self.fn, attribute)
        return getattr(self._decorator, attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.fn.__get__(instance, owner)


def _decorated(what: Any, decorator: StandIn) -> Any:
    # Classes and Triton's own objects stay what they are: they are looked into.
    return Decorated(what, decorator) if inspect.isfunction(what) else what
