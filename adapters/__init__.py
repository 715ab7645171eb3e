"""What a venue says means: pure decoding of exchange traffic into one schema. No sockets, clocks, tasks or randomness."""
