"""Fuzz what comes off the sockets: requests at the hub, frames at a client.

Only `BadRequest` may leave `decode_request`, only `WireError` the decoding of frames, and what is accepted
must mean the same when it is sent on.

Run: ``python tests/fuzz/fuzz_request.py -max_total_time=60 tests/data/wire``. What is found new goes to a
corpus beside the temporary files, not into the directory given.
Input: a frame that begins like one of the hub's is read as all that a hub sends, anything else as a request.
A mutated header hardly ever fits its length, so a frame is read once more with the length that fits.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rdahub_client.wire", "rdahub_client.records"]):
    from rdahub_client import wire
    from rdahub_client.errors import WireError
    from rdahub_client.records import Float32
    from rdahub_client.wire.admission import BadRequest, decode_request

KINDS = (wire.BLOCK, wire.SEGMENT, wire.GAP, wire.MARKERS, wire.HEARTBEAT, wire.END, wire.REPLY)
MAX_MESSAGE = 2 * wire.MAX_REQUEST


def request(frame: bytes) -> None:
    """Decode a request; one that is accepted has bounded numbers, and is the same sent on."""
    try:
        asked = decode_request(frame)
    except BadRequest as error:
        if len(str(error)) > MAX_MESSAGE or "Traceback" in str(error):
            raise RuntimeError(f"a refusal of {len(str(error))} characters") from error
        return
    for name, value in asdict(asked).items():
        if isinstance(value, bool | float) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            raise RuntimeError(f"{name}={value!r} was accepted")
    again = decode_request(wire.encode_request(asked, asked.id))
    if again != asked:
        raise RuntimeError(f"{asked!r} became {again!r}")


def samples(frame: bytes, rows: Float32) -> None:
    """The samples given out are the end of the frame, and no more."""
    if rows.size and rows.tobytes() != frame[-rows.nbytes :]:
        raise RuntimeError(f"samples of shape {rows.shape} are not those of the frame")


def published(frame: bytes) -> None:
    """Decode a published frame; what is accepted is the same sent on."""
    try:
        message = wire.decode(frame)
    except WireError:
        return
    match message:
        case wire.BlockMessage():
            samples(frame, message.samples)
            again = wire.decode(wire.encode_block(message))
        case wire.Records():
            again = wire.decode(wire.encode_records(frame[:1], message))
        case wire.Heartbeat():
            again = wire.decode(wire.encode_heartbeat(message))
        case wire.End():
            again = wire.decode(wire.encode_end(message))
    if as_text(again) != as_text(message):
        raise RuntimeError(f"{message!r} became {again!r}")


def as_text(message: wire.Message) -> str:
    """All of a message: NaN equals itself here."""
    if isinstance(message, wire.BlockMessage):
        rows = message.samples
        return f"{rows.shape} {rows.tobytes().hex()} {message.stop} {message.markers} {message.seq}"
    return repr(message)


def reply(frame: bytes) -> None:
    """Decode an answer, and read it as every answer there is."""
    try:
        answer = wire.decode_reply(frame)
    except WireError:
        return
    samples(frame, answer.samples)
    for read in (answer.page, answer.info, answer.events, answer.markers, lambda: answer.refusal):
        try:
            read()
        except WireError:
            continue


def one_input(data: bytes) -> None:
    """Read it as whatever it seems to be."""
    if data[:1] not in KINDS or len(data) < 8:
        request(data)
        return
    fitting = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    for frame in (data, fitting):
        published(frame)
        reply(frame)


def main() -> None:
    """Hand over to libFuzzer."""
    args = sys.argv
    if any(Path(arg).is_dir() for arg in args[1:]):
        # libFuzzer writes to the first directory.
        found = Path(tempfile.gettempdir()) / "rdahub-fuzz-request"
        found.mkdir(exist_ok=True)
        args = [args[0], str(found), *args[1:]]
    atheris.Setup(args, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
