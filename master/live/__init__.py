"""The state of every market now, from the events as they become durable: books, best prices, windows, volumes, candles."""
