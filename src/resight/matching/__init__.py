"""Candidates for new photos, what was compared with what, and the page that shows it."""
