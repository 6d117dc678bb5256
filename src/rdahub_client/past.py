"""An instance in the hub's archive: what it recorded, read when it is over.

Rule: as in `verbs`: a generator says what it must ask, a shell asks it. The journal is fetched once,
samples when they are wanted; what was not archived is named as a gap.
Not here: the present (`timeline`), sockets.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, cast

from rdahub_client.errors import BadRange, RequestRefused, WireError
from rdahub_client.journal import Journal
from rdahub_client.records import Float32, Gap, Instance, Marker, Segment
from rdahub_client.verbs import Ask, Verb, fetch, refused
from rdahub_client.wire import InstancesRequest, PastEventsRequest, PastRangeRequest, Refusal, Reply

__all__ = ["Past", "list_instances", "recall"]

NOT_ARCHIVED: Final = "not_archived"


class Past:
    """What is known of one instance.

    Attributes
    ----------
    about : Instance
    """

    def __init__(self, about: Instance, journal: Journal) -> None:
        self.about = about
        self._journal = journal

    @property
    def instance(self) -> str:
        """Its id."""
        return self.about.id

    @property
    def segments(self) -> list[Segment]:
        """All its segments, oldest first. One that was open when its hub died ended as ``lost``."""
        return self._journal.segments

    @property
    def start_msg(self) -> Segment | None:
        """The newest segment."""
        return self._journal.segment

    @property
    def first_available(self) -> int:
        """Index of the oldest sample."""
        return self.about.first_available

    @property
    def last_sample(self) -> int:
        """Index after the newest sample."""
        return self.about.next_index

    def markers(self, start: int, stop: int) -> list[Marker]:
        """Markers on samples ``[start, stop)``, in index order."""
        return self._journal.markers(start, stop)

    def gaps(self, start: int, stop: int) -> list[Gap]:
        """Gaps that touch ``[start, stop)``, in index order; ``not_archived`` where there is nothing."""
        runs = self.about.runs
        holes = [
            Gap(before, after, NOT_ARCHIVED)
            for (_, before), (after, _) in pairwise([(0, 0), *runs])
            if before < after and before < stop and start < after
        ]
        return sorted([*self._journal.gaps(start, stop), *holes], key=lambda gap: gap.start)

    def find(self, start: int, stop: int) -> Verb[Float32]:
        """Samples ``[start, stop)``."""
        if not 0 <= start < stop:
            raise BadRange("samples count from 0 and a range stops after its start", requested=(start, stop))
        return (yield from fetch(PastRangeRequest(instance=self.instance, start=start, stop=stop), None))


def list_instances(deadline: float | None) -> Verb[list[Instance]]:
    """Every instance there is something of, newest first."""
    found: list[Instance] = []
    while True:
        reply = cast(Reply, (yield Ask(InstancesRequest(skip=len(found)), deadline)))
        if reply.refusal is not None:
            raise refused(reply.refusal, 0, 0)
        some, more = reply.instances()
        found += some
        if not some or not more:
            return found


def recall(wanted: str | Instance) -> Verb[tuple[Instance, Journal]]:
    """Everything of an instance but its samples."""
    instance = wanted.id if isinstance(wanted, Instance) else wanted
    journal = Journal()
    while True:
        request = PastEventsRequest(instance=instance, seq=journal.next_seq)
        reply = cast(Reply, (yield Ask(request, None)))
        if (refusal := reply.refusal) is not None:
            raise _unknown(refusal)
        events = reply.events()
        if events.instance != instance:
            raise WireError(f"records of {events.instance} where those of {instance} were asked for")
        for record in events.records:
            journal.append(record)
        if not events.records or journal.next_seq >= int(reply.header["next_seq"]):
            break
    for each in (yield from list_instances(None)):
        if each.id == instance:
            return each, journal
    raise WireError(f"the hub knows instance {instance} and does not list it")


def _unknown(refusal: Refusal) -> RequestRefused:
    return RequestRefused(refusal.message, code=refusal.code)
