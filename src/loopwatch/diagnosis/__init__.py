"""Diagnosis: evidence in, decisions out. Pure functions that are told the time."""
