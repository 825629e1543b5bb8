"""The HTTP thread server: answers while the loop is blocked."""
