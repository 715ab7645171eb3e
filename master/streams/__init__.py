"""What consumers subscribe to over WebSocket: topics, snapshots, cursors, queues with a bound."""
