"""Integrations: frameworks in."""
