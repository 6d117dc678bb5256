"""A captured byte stream and when each part of it is due.

Rule: the bytes go out as they were captured, broken ones too; decoding serves to find the pace, nothing else.
Not here: sockets, clocks (see `rdahub.simulator.server`), capturing.
"""

from __future__ import annotations

from pathlib import Path

from rdahub.rda import GUID, Data, Decoder, ProtocolError, Start, TruncatedError

__all__ = ["Dump"]


class Dump:
    """A captured byte stream, and when each part of it is due.

    A data message is due when the samples up to its end have taken their time, at the sampling interval the
    capture itself states; what follows it up to the next goes with it. From where the bytes are no longer
    RDA, all is due at once.

    Parameters
    ----------
    content : bytes

    Attributes
    ----------
    content : bytes
    parts : list of (float, int)
        Seconds after the beginning, and the offset up to which bytes are due then; both rise.
    ends_inside : bool
        True if the capture ended inside a message: its Recorder vanished.
    """

    def __init__(self, content: bytes) -> None:
        if not content:
            raise ValueError("the captured stream is empty; there is nothing to replay")
        self.content = content
        self.parts: list[tuple[float, int]] = []
        self.ends_inside = False
        decoder = Decoder()
        seconds = interval = 0.0
        here = 0
        try:
            for begin in range(0, len(content), 2**16):
                decoder.feed(memoryview(content)[begin : begin + 2**16])
                for message in decoder.messages():
                    if isinstance(message, Start):
                        interval = message.interval_us * 1e-6
                    elif isinstance(message, Data):
                        if here:
                            self.parts.append((seconds, here))
                        seconds += interval * len(message.samples)
                    here = decoder.offset
            decoder.eof()
        except TruncatedError:
            self.ends_inside = True
        except ProtocolError:
            pass  # a broken stream is worth replaying: that is what a hub must stand
        self.parts.append((seconds, len(content)))

    @classmethod
    def from_file(cls, path: str | Path) -> Dump:
        """Read a capture; a file that is none or cannot be read is a ValueError that names it."""
        try:
            content = Path(path).read_bytes()
            if content and not content.startswith(GUID):
                raise ValueError("it is no captured stream: it does not begin with an RDA message")
            return cls(content)
        except OSError as error:
            raise ValueError(f"{path}: cannot read the captured stream ({error.strerror})") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
