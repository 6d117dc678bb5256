"""BrainVision RDA, the Recorder's stream, as messages and bytes.

Rule: pure; bytes in, messages out, and back. Everything the rest of rdahub knows of the wire comes from here.
Not here: sockets, time, sample indices, microvolts.
"""

from rdahub.rda.decode import MAX_CHANNELS, MAX_MESSAGE, Decoder
from rdahub.rda.encode import encode
from rdahub.rda.errors import ProtocolError, TruncatedError
from rdahub.rda.messages import (
    DATA16,
    DATA32,
    GUID,
    HEADER_SIZE,
    IMPEDANCE_DATA,
    IMPEDANCE_START,
    IMPEDANCE_STOP,
    INFO,
    KEEP_ALIVE,
    NEW_STATE,
    START,
    STOP,
    BlockMarker,
    Data,
    Electrode,
    Impedances,
    ImpedanceStart,
    ImpedanceStop,
    Info,
    KeepAlive,
    Message,
    NewState,
    Note,
    Samples,
    Start,
    Stop,
    Unknown,
)

__all__ = [
    "DATA16",
    "DATA32",
    "GUID",
    "HEADER_SIZE",
    "IMPEDANCE_DATA",
    "IMPEDANCE_START",
    "IMPEDANCE_STOP",
    "INFO",
    "KEEP_ALIVE",
    "MAX_CHANNELS",
    "MAX_MESSAGE",
    "NEW_STATE",
    "START",
    "STOP",
    "BlockMarker",
    "Data",
    "Decoder",
    "Electrode",
    "ImpedanceStart",
    "ImpedanceStop",
    "Impedances",
    "Info",
    "KeepAlive",
    "Message",
    "NewState",
    "Note",
    "ProtocolError",
    "Samples",
    "Start",
    "Stop",
    "TruncatedError",
    "Unknown",
    "encode",
]
