"""The whole of it: real sockets and processes, the simulator as the exchange, its truth as the oracle."""
