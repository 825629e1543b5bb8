"""What loopwatch costs and how exact it is, measured; run all with `python -m benchmarks`."""
