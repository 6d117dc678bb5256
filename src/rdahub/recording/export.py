"""A range as the files of MNE-Python: .fif, exact, and .edf, rounded to 16 bits.

Rule: MNE writes them, from `Client.to_raw`; so the range must fit into memory, twice as large as the samples
in the hub. What a format cannot hold is said.
Not here: what can be written as it comes, without MNE (`rdahub.commands.dump`).
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from rdahub.config import SettingError
from rdahub_client import Client
from rdahub_client.reader import Archive

__all__ = ["NEEDS", "require", "write_edf", "write_fif"]

NEEDS: Final = {".fif": ("mne", "mne"), ".edf": ("edfio", "edf")}
"""Module and extra that a suffix needs."""


def require(suffix: str) -> None:
    """See that what writes such a file is there."""
    module, extra = NEEDS[suffix]
    if find_spec("mne") is None or find_spec(module) is None:
        raise SettingError(f"{suffix} files need {module}: pip install 'rdahub[{extra}]'")


def write_fif(path: Path, client: Client | Archive, start: int, stop: int) -> str:
    """Volts as float64: multiplied by 1e6 and rounded to float32 they are the hub's samples again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the name does not end in _raw.fif was the user's choice
        client.to_raw(start, stop).save(path, fmt="double", verbose="error")
    return ""


def write_edf(path: Path, client: Client | Archive, start: int, stop: int) -> str:
    """Steps of a 65535th of each channel's range; missing samples are 0, and annotated.

    Returns
    -------
    said : str
        What is not as in the hub.
    """
    import mne  # noqa: PLC0415 - an extra

    raw = client.to_raw(start, stop)
    missing = int((~np.isfinite(raw.get_data())).any(axis=0).sum())
    raw.apply_function(lambda row: np.nan_to_num(row, posinf=0.0, neginf=0.0), picks="all", verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the last second is filled up, which MNE annotates
        mne.export.export_raw(
            path, raw, fmt="edf", physical_range="channelwise", overwrite=True, verbose="error"
        )
    more = f"; {missing} samples without a value are 0 in it" * bool(missing)
    return f"EDF holds 16 bits: samples are rounded{more}"
