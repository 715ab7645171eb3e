"""The master, room by room: what is acknowledged is on disk, once, and can be asked for."""
