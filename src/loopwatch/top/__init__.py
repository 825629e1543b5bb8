"""Watches the loops of other processes over their thread servers. Standard library only."""
