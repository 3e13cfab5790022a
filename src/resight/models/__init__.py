"""Networks that turn a chip into an embedding, where their weights come from, and the head that trains them.

Nothing is imported here: ``config`` and ``library`` answer without torch.
"""
