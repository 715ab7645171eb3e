"""Receives what collectors send, keeps it, and answers questions about it."""
