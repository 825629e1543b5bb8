"""Probes: read the state of the process. Facts only, no opinions."""
