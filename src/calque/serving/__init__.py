"""The HTTP server: LibreTranslate's API over run folders, and a page."""
