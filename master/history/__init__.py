"""Questions about what was stored: rows, ranges, SQL and exports, answered outside of the loop that acknowledges."""
