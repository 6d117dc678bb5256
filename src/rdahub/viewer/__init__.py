"""A web page that shows a hub live: what `rdahub view` serves.

Rule: it is a reader like any other, on the public `rdahub_client`; it looks and never disturbs. One thread
follows the hub, however many browsers look. Pure parts: `store` (what is known), `picture` (one browser's
traces), `decimate`, `filters`, `montage`, `quality`, `spectrum`, `access`; shells: `feed` (the hub's side),
`server` (the browsers').
"""
