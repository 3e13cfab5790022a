"""Training one embedding network for all species: the recipe, the augmentation and one visible loop.

Nothing is imported here: ``recipe`` and ``presets`` answer without torch.
"""
