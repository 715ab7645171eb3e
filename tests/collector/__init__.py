"""The rooms of the collector that need no exchange: pacing, pressure, plans, and the way to the master."""
