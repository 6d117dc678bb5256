"""What `rdahub doctor` looks at: the Recorder (`recorder`), this machine (`machine`), the hub (`hub`).

Rule: a look changes nothing, ends in a set time, and gives findings; each that is not ok says what to do.
"""
