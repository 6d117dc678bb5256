"""``rdahub doctor``: what is wrong between Recorder and readers, in lines that say what to do.

Rule: each line is a finding (`ok`, `note`, `warning`, `wrong`); exit code 1 if any is a warning or wrong, 0
otherwise. It changes nothing, and what it cannot find out it does not claim.
Not here: the looks themselves (`rdahub.checks`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rdahub.checks import hub, machine, stream
from rdahub.checks.findings import NOTE, OK, Finding
from rdahub.checks.reach import reach
from rdahub.config import DoctorSettings, recorder_address
from rdahub.rings import History


def run(settings: DoctorSettings) -> int:
    """Look at everything, printing each finding as it is made."""
    well = True
    for finding in _findings(settings):
        print(finding, flush=True)
        well = well and finding.level in {OK, NOTE}
    return 0 if well else 1


def _findings(settings: DoctorSettings) -> Iterator[Finding]:
    clock = machine.Clock()
    yield from machine.versions()
    layout = None
    if settings.recorder is not None:
        host, port = recorder_address(settings.recorder)
        reached = reach(host, port, settings.timeout)
        yield from reached.findings
        if reached.connection is not None:
            clock.look()
            with reached.connection as connection:
                seen = stream.listen(connection, settings.seconds, settings.timeout)
            yield from stream.judge(seen, settings.timeout)
            if seen.start is not None:
                layout = seen.start.n_channels, 1e6 / seen.start.interval_us
    clock.look()
    wanted = "hub" in settings.model_fields_set
    status, findings = hub.look(settings.hub, settings.timeout, settings.client_keys(), wanted=wanted)
    yield from findings
    if status is not None and status["history_seconds"]:
        yield Finding(OK, "memory", f"the hub has room for {status['history_seconds']:.0f} s of history")
    else:
        yield machine.memory(settings.shm_dir, History(settings.history, settings.history_bytes), layout)
    yield clock.judge()
