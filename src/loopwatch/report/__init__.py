"""Stall logs read back: many files in, one row per fingerprint out, in several formats.

`reading` gives the records, `pairs` puts the two of a stall together, `summary` adds up by
fingerprint; `table`, `data`, `collapsed`, `speedscope` and `page` are what comes out.
"""
