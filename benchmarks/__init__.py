"""How fast rdahub is beside its peers: same workload, one run, interleaved; only ratios count.

Rule: a lane is a way from the Recorder to a consumer; every lane gets the same bytes, is measured by the same
code, and every block it returns is checked. What is not installed is named as missing, never faked.
Rooms: `shape` (workloads as values), `source` (a Recorder), `feed` (a consumer's notes), `crowd` (consumers
and readers as processes), `lanes`, the workloads (`live`, `history`, `greatest`, `local_reads`, `startup`),
`report`, `plots`.
Not here: tests of what rdahub promises; a benchmark compares counts and correctness only.
"""
