"""The tests of the collector, room by room."""
