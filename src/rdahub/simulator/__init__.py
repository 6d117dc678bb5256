"""An RDA server without an amplifier: a synthetic signal, a recording or a captured byte stream.

Rule: what a client receives is a function of the source and the block number, never of the moment, so that a
test knows which samples it got.
Not here: RDA's bytes (`rdahub.rda`), reading recordings (`rdahub.brainvision`), the command line.
"""

from rdahub.simulator.dump import Dump
from rdahub.simulator.server import run, serve
from rdahub.simulator.sources import Replay, Source, Synthetic

__all__ = ["Dump", "Replay", "Source", "Synthetic", "run", "serve"]
