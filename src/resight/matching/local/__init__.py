"""Local evidence: points of two photos that show the same mark, found pair by pair for the best of the shortlist."""
