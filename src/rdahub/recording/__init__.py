"""Recordings that grow: BrainVision file sets on disk, written as samples come.

`text` knows the format's words, `fileset` one set of files, `folder` those that are there, `sequence` which
sample goes where. Reading whole recordings for the simulator is `rdahub.brainvision`.
"""
