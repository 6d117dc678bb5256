"""Text as RDA servers write it in START and in markers: in no stated encoding.

Rule: any bytes are text; nothing is refused, nothing is replaced.
Not here: the UTF-16 of vendor messages (see `vendor`), writing (see `encode`).
"""

from __future__ import annotations


def decode_text(raw: bytes | bytearray) -> str:
    """Read UTF-8, else Windows-1252, else Latin-1, which takes any byte."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")
