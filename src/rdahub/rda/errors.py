"""How a BrainVision RDA stream can be wrong.

Rule: every error has its place in the stream, a short stable name, and one line: what was found and expected.
Not here: what is tolerated, which is a `Note` among the messages.
"""

from __future__ import annotations


class ProtocolError(ValueError):
    """The stream is not RDA, or breaks it in a way after which nothing can be trusted: close the connection.

    Parameters
    ----------
    offset : int
        Stream offset in bytes, counted since the decoder was made, of the field that is wrong.
    problem : str
        Short stable name: ``guid``, ``size``, ``start_body``, ``channels``, ``interval``, ``names``,
        ``data_before_start``, ``data_body``, ``marker_count``, ``marker_size`` or ``truncated``.
    text : str
        What is wrong, the value found, what was expected.
    """

    def __init__(self, offset: int, problem: str, text: str) -> None:
        super().__init__(f"at byte {offset}: {text}")
        self.offset = offset
        self.problem = problem
        self.text = text


class TruncatedError(ProtocolError):
    """The stream ended inside a message.

    Parameters
    ----------
    offset : int
        Stream offset of the first missing byte.
    missing : int
        Bytes missing from the message, or from its header if not even that was complete.
    text : str
        What ended where.
    """

    def __init__(self, offset: int, missing: int, text: str) -> None:
        super().__init__(offset, "truncated", text)
        self.missing = missing
