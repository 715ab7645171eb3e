"""The simulator, seen from outside: real sockets, clients written from the venues' sheets, recorded frames as measure."""
