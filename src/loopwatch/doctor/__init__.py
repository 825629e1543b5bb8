"""`loopwatch doctor`: what works here, and whether a loop that is blocked on purpose is told."""
