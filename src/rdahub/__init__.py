"""The hub: one Recorder, one history, many readers."""
