"""Species, part, viewpoint and quality of an animal, proposed by small heads on frozen features."""
