"""Fuzz the RDA decoder: only `ProtocolError` may escape, and cuts may not matter.

Run: ``python tests/fuzz/fuzz_rda.py -max_total_time=60 tests/data/rda/cases``. What is found new goes to a
corpus beside the temporary files, not into the directory given.
Input: the first byte chooses the cuts, the rest is the stream; recorded streams (they begin with the GUID)
serve as they are.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rdahub.rda"]):
    from rdahub.rda import GUID, Data, Decoder, Message, ProtocolError

# Small limits bring both sides of them within reach of short inputs.
MAX_MESSAGE = 4096
MAX_CHANNELS = 64


def fingerprint(message: Message) -> str:
    """All of a message, as text: NaN equals itself here."""
    if isinstance(message, Data):
        samples = message.samples
        return (
            f"{message.counter} {samples.dtype} {samples.shape} {samples.tobytes().hex()} {message.markers}"
        )
    return repr(message)


def verdict(stream: bytes, step: int) -> list[str]:
    """What the decoder says of `stream` fed in pieces of `step` bytes, down to its last word."""
    decoder = Decoder(MAX_MESSAGE, MAX_CHANNELS)
    seen = []
    try:
        for i in range(0, len(stream), step):
            decoder.feed(stream[i : i + step])
            for message in decoder:  # one by one: a list would be lost with the error
                seen.append(fingerprint(message))  # noqa: PERF401
        decoder.eof()
    except ProtocolError as error:
        if not 0 <= decoder.offset <= error.offset <= len(stream):
            raise RuntimeError(f"offset {error.offset} is not in the message at {decoder.offset}") from error
        seen.append(f"{error.problem} {error}")
    return [*seen, str(decoder.offset)]


def one_input(data: bytes) -> None:
    """Compare the stream fed whole with the same fed in pieces."""
    step, stream = (7, data) if data.startswith(GUID) else (data[0] + 1 if data else 1, data[1:])
    whole, cut = verdict(stream, max(len(stream), 1)), verdict(stream, step)
    if whole != cut:
        raise RuntimeError(f"whole: {whole}\nin pieces of {step}: {cut}")


def main() -> None:
    """Hand over to libFuzzer."""
    args = sys.argv
    if any(Path(arg).is_dir() for arg in args[1:]):
        # libFuzzer writes to the first directory.
        found = Path(tempfile.gettempdir()) / "rdahub-fuzz-rda"
        found.mkdir(exist_ok=True)
        args = [args[0], str(found), *args[1:]]
    atheris.Setup(args, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
