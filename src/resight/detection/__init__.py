"""Finding animals in photos: detectors, each a small file, and the run that writes down what they find."""
