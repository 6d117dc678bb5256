"""``--archive``: every instance's recording on disk, beyond memory, and after the hub's end.

`keeper` is the hub's half: it starts the process, hands questions over and answers on; what need not be
waited for it reads itself (`cached`). `archivist` is that process: it follows the hub's ring and answers from
the files (`volume`, `shelf`).
Rule: the hub never waits for a disk. Nothing but `keeper` and `cached` runs in the hub.
"""
