"""The incident for people, as one HTML page and as Markdown: its words, charts and templates."""
