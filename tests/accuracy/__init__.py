"""What loopwatch says about stalls whose cause is known: `python -m tests.accuracy` runs all."""
