"""The strict check of a request: the hub's half of `requests`.

Rule: a request is hostile until a strict model has taken it; anyone may send one. What is no request is a
`BadRequest` with the reason, never another exception.
Not here: what a request looks like (`requests`). Clients do not import this: pydantic takes long to load, as
long as all the rest of them.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgpack
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from rdahub_client.wire.frame import INDEX_LIMIT, VERSION
from rdahub_client.wire.requests import MAX_REQUEST, Bounds, Request

__all__ = ["BadRequest", "decode_request"]


class BadRequest(Exception):
    """A request that cannot be understood; `id` is what to answer to, None if even that is missing."""

    def __init__(self, message: str, request_id: int | None = None) -> None:
        super().__init__(message)
        self.id = request_id


def _strict(hint: Any) -> Any:
    """The same type with its bounds as pydantic knows them."""
    if get_origin(hint) is Annotated:
        kind, bounds = get_args(hint)
        assert isinstance(bounds, Bounds)  # noqa: S101 - there is no other in `requests`
        if kind is str:
            return Annotated[kind, Field(min_length=bounds.low, max_length=bounds.high - 1)]
        return Annotated[kind, Field(ge=bounds.low, lt=bounds.high)]
    if type(None) in get_args(hint):
        return _strict(get_args(hint)[0]) | None
    return hint


def _model(kind: type[Any]) -> type[BaseModel]:
    hints = get_type_hints(kind, include_extras=True)
    members: dict[str, Any] = {
        each.name: (_strict(hints[each.name]), ... if each.default is MISSING else each.default)
        for each in fields(kind)
    }
    # A Literal for the version would take True and 1.0 for 1.
    members["v"] = (Annotated[int, Field(ge=VERSION, le=VERSION)], VERSION)
    return create_model(kind.__name__, __config__=ConfigDict(strict=True, extra="forbid"), **members)


_KINDS: Final = {str(_model(kind).model_fields["op"].default): kind for kind in get_args(Request)}
_MODELS: Final = [_model(kind) for kind in _KINDS.values()]
_union: Any = _MODELS[0]
for _each in _MODELS[1:]:
    _union |= _each
_REQUEST: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[_union, Field(discriminator="op")])


def decode_request(frame: bytes | memoryview) -> Request:
    """Read a request; strict, because anyone may send one.

    Raises
    ------
    BadRequest
        With the reason, and the request's id if it has a usable one.
    """
    if len(frame) > MAX_REQUEST:
        raise BadRequest(f"a request of {len(frame)} bytes; the limit is {MAX_REQUEST}")
    try:
        received = msgpack.unpackb(frame)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadRequest(f"not msgpack: {type(error).__name__}") from None
    if not isinstance(received, dict):
        raise BadRequest("not a msgpack map")
    request_id = received.get("id")
    if type(request_id) is not int or not 0 <= request_id < INDEX_LIMIT:
        raise BadRequest("no request id: 'id' must be an integer from 0 to 2**63 - 1")
    try:
        checked = _REQUEST.validate_python(received).__dict__
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        raise BadRequest(f"{where}: {first['msg']}", request_id) from None
    request: Request = _KINDS[checked["op"]](**{name: checked[name] for name in checked if name != "v"})
    return request
