"""A web shop that makes the typical mistakes, load for it, and a view of what loopwatch sees."""
