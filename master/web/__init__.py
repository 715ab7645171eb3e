"""HTTP: the API and its document, errors, limits, metrics, and the page."""
