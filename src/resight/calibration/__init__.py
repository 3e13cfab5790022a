"""What the evidence is worth: P(same animal), P(new animal), how true both are, and the file that keeps them."""
