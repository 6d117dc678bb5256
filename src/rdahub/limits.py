"""Every limit of the hub, once, with its reason.

Rule: a number that protects the hub stands here and nowhere else. Limits of the format are in `rda.decode`,
limits of the wire in `rdahub_client.wire`, the Recorder's patience in `upstream`.
"""

from __future__ import annotations

from typing import Final

HEARTBEAT_SECONDS: Final = 0.5
"""Between heartbeats on the publish socket: silence is told from loss within two of them."""

PUBLISH_MESSAGES: Final = 500
"""Frames queued for one slow subscriber before blocks are dropped for it (it repairs them from history): 10 s
of 20 ms blocks. Never 0: that is no limit at all. In bytes, 2.6 MB at 64 ch x 1 kHz. At high rates
`STALLED_MS` bounds it first. It is set
before the bind and never again: libzmq 4.3.5 dies (SEGV) when the limit of a socket with peers that come and
go is changed."""
SUBSCRIPTION_BYTES: Final = 64
"""Longest message a subscriber may send. Topics are one byte; 50,000 long subscriptions cost 471 MiB."""

STALLED_MS: Final = 3000
"""For a subscriber's system to take any bytes; then TCP ends the connection. In place of ZeroMQ's heartbeats,
for on this socket they end whole processes (libzmq issue 3937): a hub always has something to send."""
STALLED_BEATS: Final = 10
"""Heartbeats that cover it, and what TCP needs to end the connection."""
SUBSCRIPTIONS: Final = 16
"""Messages of subscribers, and hellos of local readers, taken in one turn of the loop: a flood waits."""
SUBSCRIPTIONS_PER_BEAT: Final = 64
"""Subscriptions of one peer between two heartbeats; a client makes five. One without a key that makes 50,000
short ones would cost 82 MiB."""
CURVE_BYTES: Final = 512
"""Besides the above, for the messages of a CURVE handshake (300 are too few) and for encryption."""

QUERY_THREAD: Final = 0b001
PUBLISH_THREADS: Final = 0b110
IO_THREADS: Final = 3
"""Each door has I/O threads of libzmq to itself: who floods one does not hold up the other. The publish door
has two, among which libzmq divides its peers: with one, noise there delayed others' blocks (p99) 1.2 to 2.2
times as much as noise at another hub of the same machine; with two it is 0.7 to 1.0 times."""
QUERY_NICE: Final = 5
"""How far that of the query door steps back: where both want the same core, live blocks go first."""

RECEIVE_BUFFER: Final = 1024
"""Bytes the system takes from a peer before libzmq reads them; Linux makes it 2304, its least. Peers send a
hundred bytes now and then. With more, a flood is read into the hub's memory faster (five times with the usual
buffer) than libzmq takes in subscriptions, all of a flood in one call."""
UNREAD: Final = 0
"""High-water mark of what peers send: none. Where a peer's queue is full and its connection breaks, libzmq
4.3.5 ends the whole process (assertion in stream_engine_base.cpp, libzmq issues 4364 and 4852). Floods are
cut by the limits below, and by that on memory."""
REQUESTS_PER_BEAT: Final = 10_000
"""Requests of one peer between two heartbeats, beyond which it is cut off. One that waits for each answer
makes 3,000."""
BUSY_COSTS: Final = 50
"""What a request counts that had to be told BUSY ..."""
UNHEARD_COSTS: Final = 250
"""... and could not even be told: who goes on all the same does not read the answers."""
REQUESTS_PER_TURN: Final = 8
"""Requests read in one turn of the loop, 10 to 30 µs each, unless a block comes: that goes first. With
fewer instead, honest clients with two questions under way missed answers in a flood."""
QUESTIONS_PER_CLIENT: Final = 8
"""Questions of one client that wait for their turn; beyond it the answer is BUSY."""
QUESTIONS_WAITING: Final = 512
"""The same for all clients together: at 0.3 ms a page none waits longer than 0.2 s."""
MARKS: Final = 5_000
"""Inserted markers, of all clients, in ...: 12 MB if each is as long as it may be, half of what
`MEMORY_BYTES` allows. Their tokens are remembered as long: a repetition is known by it."""
MARKS_SECONDS: Final = 600.0
"""... this much of the recording, or in the history if that is shorter. That is eight a second; more are
refused until the oldest are older."""
MARK_AHEAD_SECONDS: Final = 10.0
"""Beyond the newest sample that an inserted marker may stand: what is about to be shown, a clock ahead.
A marker in the future keeps the journal before it from being forgotten until its sample has gone."""
REPLY_MESSAGES: Final = 2
"""Answers queued for one client that does not read them; each is a page of about 1 MiB at most. More are
dropped, and asked for again by a client that still wants them."""

HANDSHAKES: Final = 8
"""Handshakes looked at in one turn of the loop, some 20 µs each."""
SELDOM_LINES: Final = 5
"""Log lines of a kind that a peer or the Recorder could cause without end, in ..."""
RECORDER_LINES: Final = 10
"""The same for what becomes of the connection to the Recorder: four lines tell a good one."""
SELDOM_SECONDS: Final = 60.0
"""... this time; the rest are counted."""
LOG_LINES: Final = 1000
"""Log lines that wait for a terminal or pipe that takes none; more are dropped and counted."""
LOG_GOODBYE_SECONDS: Final = 0.5
"""For the last log lines to be read."""

MEMORY_BYTES: Final = 24 << 20
"""Of memory beyond what the hub uses by itself and what was published lately (that may wait for subscribers
that have stopped, until they are cut; at high rates it is much, and no attack). What libzmq cannot bound peer
by peer (a message whose end never comes, thousands of connections) is cut here: the sockets are opened anew,
which drops all peers and frees everything; clients come back at once and repair what they missed."""
MEMORY_SECONDS: Final = 0.05
"""Between looks at it: a peer on the same machine fills 35 MiB in that time."""
MEMORY_RISE: Final = 4 << 20
"""By which it must have risen again for another opening; what a closed socket held is free after a moment."""
CURE_SECONDS: Final = 5.0
"""After an opening, until memory that stays counts as the hub's own."""
REOPEN_SECONDS: Final = 2.0
"""For a closed socket to let go of its address; it takes milliseconds."""
DESCRIPTORS: Final = 4096
"""Open files the hub asks the system for: a connection takes one, also one that says nothing for 3 s."""

RECEIVE_CALLS: Final = 64
"""Reads from the Recorder in one turn of the loop before others get theirs."""
DRAIN_SECONDS: Final = 0.05
"""Of taking in what the Recorder sent before others get their turn: a backlog must not stop heartbeats."""
HANDSHAKE_MS: Final = 3000
"""For a peer to finish its handshake; silent connections are cut after it (libzmq's default is 30 s)."""
GOODBYE_MS: Final = 500
"""For the last messages to leave at shutdown, which ends within 2 s."""

LAST_QUESTIONS_SECONDS: Final = 0.2
"""At shutdown, for readers on this machine to ask for the last records."""

CONNECT_SECONDS: Final = 5.0
"""For one attempt to reach the Recorder."""
KEEPALIVE_SECONDS: Final = 5
"""Of silence until TCP probes the Recorder, and between probes."""
USER_TIMEOUT_MS: Final = 10_000
"""For unacknowledged bytes until TCP gives the Recorder up."""

EXPORTER_SECONDS: Final = 15.0
"""For the process of --metrics to start: a slow disk, a virus scanner."""
EXPORTER_AGAIN_SECONDS: Final = 10.0
"""Until it is started again if it has died, so that one that cannot live costs little."""
EXPORTER_GOODBYE_SECONDS: Final = 0.5
"""For it to end before it is killed; the hub ends within 2 s."""

LOCAL_READERS: Final = 256
"""Bells rung after each block at 2 µs each; more readers of one machine than this is a mistake."""
MEMORY_RESERVE: Final = 48 << 20
"""Of a container's memory limit, left for the hub itself and its peers when the history takes its part."""
OLDER_RING_SECONDS: Final = 10.0
"""The ring before the newest stays at least, even beyond --history-bytes: readers may be a block behind."""
LEAST_SHARED_PART: Final = 0.01
"""Of the history wanted: below it the ring goes to the hub's own memory and is not shared."""

ARCHIVED_RECORDS: Final = 50_000
"""Records that stay in memory for samples that are only in the archive: 15 MB, 14 h at one marker a second.
Older samples are answered for as those of an earlier instance are."""
ARCHIVE_SECONDS: Final = 3.0
"""For the archive's process to answer, which is long for a disk; clients take the hub for lost after 5 s."""
ARCHIVE_AGAIN_SECONDS: Final = 1.0
"""Until its process is started again: what comes meanwhile waits in the history."""
ARCHIVE_GOODBYE_SECONDS: Final = 1.0
"""For it to write what is left at the hub's end; the hub ends within 2 s."""

RDA_OUT_CLIENTS: Final = 64
"""Connections to --rda-out at a time: each costs its process some 10 µs a block. More are closed at once."""
RDA_OUT_CLIENT_BYTES: Final = 16 << 20
"""That may wait for one client of --rda-out before it is disconnected: over a minute of 64 ch x 1 kHz, 1.3 s
of 128 ch x 25 kHz, besides what its connection holds. Recorders give up after 1 to 9 s. The memory is shared
by all clients that are behind."""
RDA_OUT_BEHIND_BYTES: Final = 8 << 20
"""That may wait in the hub for the process of --rda-out before that is started anew: 0.6 s of 128 ch x
25 kHz, and well below `MEMORY_BYTES`, where it counts."""
RDA_OUT_SOCKET_BYTES: Final = 1 << 20
"""Asked of the system for what is on its way to that process and to each of its clients; it may give less."""
RDA_OUT_HEARD_BYTES: Final = 64 << 10
"""That a client of --rda-out may send, where none has anything to say, before it is disconnected; and that is
read at once, of what its process reports too."""
RDA_OUT_LINES: Final = 100
"""Of news from that process that wait to be logged; the oldest are left out."""
RDA_OUT_LAST_SECONDS: Final = 5.0
"""For a client to take what waits for it when the Recorder is lost, before its connection is closed."""
RDA_OUT_GOODBYE_SECONDS: Final = 0.3
"""The same at the hub's end; less than `EXPORTER_GOODBYE_SECONDS`."""
RDA_OUT_AGAIN_SECONDS: Final = 1.0
"""Until that process is started again: clients that come meanwhile wait."""
