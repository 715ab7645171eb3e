"""Consolidated prices: methods, feeds, conversion between quotes, and why a source was refused."""
