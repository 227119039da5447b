"""A report as text: Markdown, LaTeX, HTML, CSV, JSON, or lines for a terminal."""
