"""Asks the venues, and hands over what they say: all the I/O of the collecting side."""
