"""A report as one HTML page that needs nothing else: no network, no file beside it."""

from reporting.formats.html.page import web

__all__ = ["web"]
